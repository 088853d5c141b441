"""Where each kind of object lies in the bucket; `docs/storage-format.md` is the norm."""

DATASETS = "datasets"
ACTIVATIONS = "activations"
SAES = "saes"
ANALYSES = "analyses"


def artifact_prefix(kind: str, key: str) -> str:
    """The folder of one artifact, with its slash: `activations/<key>/`."""
    return f"{kind}/{key}/"


def manifest_key(activations: str) -> str:
    """The manifest of the activation set with the key `activations`."""
    return artifact_prefix(ACTIVATIONS, activations) + "manifest.json"


def shard_key(activations: str, index: int) -> str:
    """Shard number `index` (from 0) of the activation set with the key `activations`."""
    return artifact_prefix(ACTIVATIONS, activations) + f"shard-{index:05d}.safetensors"
