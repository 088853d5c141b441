"""Where each kind of object lies in the bucket; `docs/storage-format.md` is the norm.

What a stage publishes carries the start of its own checksum in its name: other bytes are another object, so that no
late writer (a worker that lost its lease, a machine that rounds differently) can replace what the catalog names.
Without a checksum a key function gives the name to put under; `ObjectStore.put` fills the checksum in.
"""

import re

DATASETS = "datasets"
ACTIVATIONS = "activations"
SAES = "saes"
IMPORTS = "imports"
ANALYSES = "analyses"
MAPS = "maps"
NAMES = "names"
LOGS = "logs"
TAXONOMIES = "taxonomies"
DOCTOR = "doctor"

CHECKSUM = "{sha256}"
_CHECKSUM_DIGITS = 16
NOT_OF_ARTIFACTS = {
    DATASETS: re.compile(r"datasets/[0-9a-f]{64}/listing-[0-9a-f]{16}\.parquet"),
    TAXONOMIES: re.compile(r"taxonomies/[0-9a-f]{64}\.json"),
    IMPORTS: re.compile(r"imports/[0-9a-f]{64}/sae-[0-9a-f]{16}\.safetensors"),
    LOGS: re.compile(r"logs/[0-9]{1,18}/.+"),
    DOCTOR: re.compile(r"doctor/[0-9a-f]{16}"),
}
"""The folders of objects that belong to no artifact, with the keys that objects have there; no others are hsae's."""


def fill_checksum(key: str, sha256: str) -> str:
    """The object's key once its checksum is known."""
    return key.replace(CHECKSUM, sha256[:_CHECKSUM_DIGITS])


def artifact_prefix(kind: str, key: str) -> str:
    """The folder of one artifact, with its slash: `activations/<key>/`."""
    return f"{kind}/{key}/"


def artifact_of(object_key: str) -> tuple[str, str]:
    """The folder and the artifact's key in the key of one of its objects: `activations`, `<key>`."""
    folder, _, rest = object_key.partition("/")
    return folder, rest.partition("/")[0]


def is_of_hsae(folder: str, object_key: str) -> bool:
    """Whether an object of one of hsae's folders has a key that hsae gives."""
    pattern = NOT_OF_ARTIFACTS.get(folder) or re.compile(rf"{folder}/[0-9a-f]{{64}}/.+")
    return pattern.fullmatch(object_key) is not None


def manifest_key(activations: str, sha256: str = CHECKSUM) -> str:
    """The manifest of the activation set with the key `activations`."""
    return fill_checksum(artifact_prefix(ACTIVATIONS, activations) + f"manifest-{CHECKSUM}.json", sha256)


def shard_key(activations: str, index: int, sha256: str = CHECKSUM) -> str:
    """Shard number `index` (from 0) of the activation set with the key `activations`."""
    return fill_checksum(
        artifact_prefix(ACTIVATIONS, activations) + f"shard-{index:05d}-{CHECKSUM}.safetensors", sha256
    )


def weights_key(sae: str, sha256: str = CHECKSUM) -> str:
    """The weights of the SAE with the key `sae`."""
    return fill_checksum(artifact_prefix(SAES, sae) + f"sae-{CHECKSUM}.safetensors", sha256)


def imported_key(imported: str, sha256: str = CHECKSUM) -> str:
    """The weights of a registered SAE of another program, whose content has the key `imported`."""
    return fill_checksum(artifact_prefix(IMPORTS, imported) + f"sae-{CHECKSUM}.safetensors", sha256)


def checkpoints_prefix(sae: str) -> str:
    """The folder of the training's checkpoints, with its slash."""
    return artifact_prefix(SAES, sae) + "checkpoints/"


def checkpoint_key(sae: str, fence: int, time_ns: int) -> str:
    """A checkpoint of a training.

    The fence is part of the name, so a worker that lost its lease overwrites nothing that its successor reads.
    """
    return checkpoints_prefix(sae) + f"{fence}-{time_ns}.safetensors"


def job_log_prefix(job_id: int) -> str:
    """The folder of a job's logs, with its slash."""
    return f"{LOGS}/{job_id}/"


def job_log_key(job_id: int, fence: int) -> str:
    """The log of one start of a job; `fence` counts the starts, from 1."""
    return f"{job_log_prefix(job_id)}{fence:06d}.jsonl"


def latents_key(analysis: str, sha256: str = CHECKSUM) -> str:
    """Every latent's activation on every image, of the analysis with the key `analysis`."""
    return fill_checksum(artifact_prefix(ANALYSES, analysis) + f"latents-{CHECKSUM}.safetensors", sha256)


def class_sums_key(analysis: str, sha256: str = CHECKSUM) -> str:
    """The class sums of the analysis with the key `analysis`."""
    return fill_checksum(artifact_prefix(ANALYSES, analysis) + f"class_sums-{CHECKSUM}.safetensors", sha256)


def maps_key(maps: str, sha256: str = CHECKSUM) -> str:
    """The relevancy maps of the set with the key `maps`."""
    return fill_checksum(artifact_prefix(MAPS, maps) + f"maps-{CHECKSUM}.safetensors", sha256)


def directions_key(names: str, sha256: str = CHECKSUM) -> str:
    """What the latents of the set of names with the key `names` stand for in the space of words."""
    return fill_checksum(artifact_prefix(NAMES, names) + f"directions-{CHECKSUM}.safetensors", sha256)


def listing_key(fingerprint: str, sha256: str) -> str:
    """Object key of a data set's listing; its checksum is part of it, since Parquet writers differ in their bytes."""
    return fill_checksum(artifact_prefix(DATASETS, fingerprint) + f"listing-{CHECKSUM}.parquet", sha256)


def listing_of(object_key: str) -> tuple[str, str]:
    """The inverse of `listing_key`: the data set's fingerprint, and the start of the listing's checksum."""
    _, fingerprint, name = object_key.split("/")
    return fingerprint, name.removeprefix("listing-").removesuffix(".parquet")


def taxonomy_key(key: str) -> str:
    """Object key of an induced taxonomy."""
    return f"{TAXONOMIES}/{key}.json"


def taxonomy_of(object_key: str) -> str:
    """The inverse of `taxonomy_key`."""
    return object_key.removeprefix(f"{TAXONOMIES}/").removesuffix(".json")


def doctor_key(name: str) -> str:
    """Object key of what a check of the store writes, reads and deletes."""
    return f"{DOCTOR}/{name}"
