"""Training steps of hsae beside those of other packages, and what they are worth.

Speed: steps on synthetic rows of width 768 with 6,144 latents and batches of 4,096. Each kind takes turns with its
peers and the bounds, on the same batches.
Worth: each is trained to the same number of vectors on class tokens of the demo's images; held-out FVU, L0 and dead
share.
"""

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence

os.environ["OMP_WAIT_POLICY"] = "passive"  # as in the workers; read when torch is loaded

import torch
from benchmarks.measure import Row, at_least, at_most, machine, print_header, print_report, versions
from benchmarks.sae.contender import Contender, Setting
from benchmarks.sae.own_trainings import NARROW, OURS, narrow_contenders, own_contenders
from benchmarks.sae.peer_trainings import peer_contenders
from benchmarks.sae.plain_steps import DENSE, ONE_PRODUCT, plain_contenders
from benchmarks.sae.steps_in_turns import speeds
from benchmarks.sae.training_quality import quality_rows
from jaxtyping import Float
from torch import Tensor

from hsae.pipeline.execution.freed_memory import keep_freed_memory

_SHARE_OF_BOUND = 0.65
_OVER_SPARSIFY = 2.0
_OVER_PEERS = 3.0
_NARROW_OVER_SPARSIFY = 3.0
_NARROW_FVU = 0.01
"""In bfloat16 the held-out FVU may be that much above that of float32, as a share of it."""


def synthetic_rows(n_rows: int, d_model: int, seed: int) -> Float[Tensor, "n_rows d_model"]:
    """Sums of 20 of 2,000 directions, with an offset and noise."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(2_000, d_model, generator=generator), dim=1)
    chosen = torch.randint(2_000, (n_rows, 20), generator=generator)
    weights = torch.rand(n_rows, 20, generator=generator) + 0.5
    rows = torch.nn.functional.embedding_bag(chosen, directions, per_sample_weights=weights, mode="sum")
    rows += 3 * torch.randn(d_model, generator=generator)
    return rows + 0.02 * torch.randn(n_rows, d_model, generator=generator)


def speed_rows(kind: str, found: Mapping[str, float]) -> Iterator[Row]:
    """Vectors a second of one kind, of its peers and of the bounds, and the goals."""
    for title, value in found.items():
        yield Row(title if title.startswith(kind) else f"{title}, in turns with {kind}", value, "vectors/s")
    ours = found.get(f"{kind}, {OURS}")
    if ours is None:
        return
    share = ours / found[f"bound, {ONE_PRODUCT}"]
    title = f"{kind}: share of the one-product bound"
    yield at_least(title, share, "", _SHARE_OF_BOUND) if kind == "topk" else Row(title, share, "")
    peers = {t: v for t, v in found.items() if t.startswith(f"{kind}, ") and not t.endswith((OURS, DENSE))}
    if kind == "topk":
        for title, speed in peers.items():
            if title.startswith("topk, sparsify"):
                sparsify, narrow = title.split(", ")[1], found.get(f"topk, {NARROW}")
                yield at_least(f"topk: over {sparsify}", ours / speed, "times", _OVER_SPARSIFY)
                if narrow is not None:
                    name = f"topk in bfloat16: over {sparsify}"
                    yield at_least(name, narrow / speed, "times", _NARROW_OVER_SPARSIFY)
    elif peers:
        yield at_least(f"{kind}: over the fastest peer", ours / max(peers.values()), "times", _OVER_PEERS)
    if f"relu, {DENSE}" in found:
        yield Row("relu: over the plain dense step", ours / found[f"relu, {DENSE}"], "times")


def narrow_quality(rows: Sequence[Row]) -> Iterator[Row]:
    """What bfloat16 costs of the held-out FVU of TopK, where it was measured."""
    fvu = {row.name: row.value for row in rows}
    exact, narrow = (fvu.get(f"topk, {name}: held-out FVU") for name in (OURS, NARROW))
    if exact is not None and narrow is not None:
        yield at_most("topk in bfloat16: FVU over that of float32, less 1", narrow / exact - 1, "", _NARROW_FVU)


def measured_speeds(
    own: Sequence[Contender], peers: Sequence[Contender], setting: Setting, *, n_steps: int, n_threads: int
) -> tuple[list[Row], list[str]]:
    """Each kind in turns with its peers and the bounds; and what failed."""
    rows: list[Row] = []
    failed: list[str] = []
    for contender in own:
        kind = contender.kind
        together = [plain for plain in plain_contenders() if plain.kind in ("bound", kind)]
        together += [contender, *(peer for peer in peers if peer.kind == kind)]
        found, also_failed = speeds(together, setting, n_steps, n_threads)
        rows += speed_rows(kind, found)
        failed += also_failed
    return rows, failed


def main() -> None:
    keep_freed_memory()  # as in a job
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5, help="measured steps of each (default: %(default)s)")
    parser.add_argument("--quality-steps", type=int, default=400, help="steps of the trainings that are judged")
    parser.add_argument("--kinds", nargs="*", help="of hsae (default: all)")
    parser.add_argument("--threads", type=int, default=2, help="of torch (default: %(default)s)")
    parser.add_argument("--d-model", type=int, default=768, help="width of the synthetic rows (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=4_096, help="rows a step (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # see `steps_in_turns`
    peers, missing, of_peers = peer_contenders()
    where, what = machine(), versions() | of_peers
    print_header("training steps of sparse autoencoders", where, what)
    own = list(own_contenders(arguments.kinds))
    shared = {contender.kind for contender in own}
    peers = [contender for contender in peers if contender.kind in shared]
    narrow = list(narrow_contenders(shared))
    for contender in own:
        if not any(peer.kind == contender.kind for peer in peers):
            missing.append(f"{contender.kind}: no installed peer has it")
    setting = Setting(
        synthetic_rows(5 * arguments.batch, arguments.d_model, 0), 8 * arguments.d_model, arguments.batch, n_steps=1_000
    )
    rows, failed = measured_speeds(
        own, [*narrow, *peers], setting, n_steps=arguments.steps, n_threads=arguments.threads
    )
    torch.set_num_threads(arguments.threads)
    if arguments.quality_steps:
        of_quality, also_failed = quality_rows([*own, *narrow, *peers], arguments.quality_steps)
        rows += [*of_quality, *narrow_quality(of_quality)]
        failed += also_failed
    if "topk" in shared and not narrow:
        missing.append("topk in bfloat16: this processor has no instructions for it")
    elsewhere = "GPUs; streamed rows and sweeps (benchmarks.sae.streaming)"
    print_report(rows, where, what, [*missing, *failed, elsewhere])


if __name__ == "__main__":
    main()
