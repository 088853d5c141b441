"""What a job will take and leave behind, estimated when it is planned."""

from dataclasses import dataclass, fields, replace

from hsae.backbones.spec import BackboneSpec


@dataclass(frozen=True, slots=True)
class Estimate:
    """Rough numbers (ours): they say what is big, not what exactly will be. 0: little beside those of other kinds.

    Attributes:
        n_bytes: of the artifacts in the object store.
        n_objects: objects there.
        n_rows: rows in Postgres.
        teraflop: operations of the model's passes over images, 10^12.
        cpu_minutes: minutes of a job of the queue `cpu` on two processor cores; 0: it does not matter where it runs.
        memory_bytes: that a job takes on its machine; of several jobs the most that one takes.
    """

    n_bytes: int = 0
    n_objects: int = 0
    n_rows: int = 0
    teraflop: float = 0.0
    cpu_minutes: float = 0.0
    memory_bytes: int = 0

    def __add__(self, other: "Estimate") -> "Estimate":
        added = Estimate(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))
        return replace(added, memory_bytes=max(self.memory_bytes, other.memory_bytes))


NOTHING = Estimate()


def pass_teraflop(spec: BackboneSpec, layers: tuple[int, ...], n_images: int) -> float:
    """10^12 operations of passes over images up to the deepest of the layers; 0 where blocks differ.

    `24 d_model^2` operations a token and block for the matrices and `4 n_tokens d_model` for attention: a
    transformer whose MLP is four times as wide as its stream, as in docs/scale.md.
    """
    if spec.shapes is not None:
        return 0.0
    n_tokens, width = spec.n_prefix_tokens + spec.n_patches, spec.d_model
    of_block = n_tokens * (24 * width**2 + 4 * n_tokens * width)
    return n_images * (max(layers) + 1) * of_block / 1e12
