"""Which models have a text tower, and the files of one; nothing of torch is loaded."""

from dataclasses import dataclass
from pathlib import Path

from hsae.backbones.names import library_of
from hsae.backbones.sources import CONFIG_FILE, Source, checksum, find, first_hub_file, read_json
from hsae.errors import ServiceError, UserError

TEXT_TYPES = ("clip", "siglip", "siglip2")
"""Types of `transformers` whose images and texts have embeddings in one space."""
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json",
    "added_tokens.json", "spiece.model", "tokenizer.model",
)  # fmt: skip
_VOCABULARIES = {"tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model"}
_CHOOSE = "choose a CLIP or SigLIP model, such as openai/clip-vit-base-patch32"


@dataclass(frozen=True, slots=True)
class TextModel:
    """A model of images and texts.

    Attributes:
        name: hub id or absolute folder.
        revision: commit on the hub, or `sha256-` and the checksum of a folder's configuration and weights.
        model_type: as transformers names it.
        tokenizer: checksum of a folder's tokenizer files; empty on the hub, where the commit stands for them.
        folder: its files, but for the weights.
    """

    name: str
    revision: str
    model_type: str
    tokenizer: str
    folder: Path


def find_text_model(
    name: str, *, revision: str | None = None, tokenizer: str = "", cache_dir: Path | None = None
) -> TextModel:
    """Find a model with a text tower, and its tokenizer.

    Args:
        name: hub id or folder.
        revision: that must be there; None: any folder, or the main branch on the hub.
        tokenizer: checksum of a folder's tokenizer files that must be there; empty: any.
        cache_dir: cache of hub downloads; None: the hub's own.

    Raises:
        ServiceError: the hub cannot be reached, and its cache lacks the model.
        UserError: there is no such model, it has no text tower or no tokenizer, or its files are others.
    """
    if library_of(name) is not None:
        raise UserError(f"{name} is no model of transformers, and only the text towers of these are read: {_CHOOSE}")

    def accept(path: Path) -> None:
        content = read_json(path)
        if content.get("model_type") not in TEXT_TYPES:
            raise UserError(f"{name} is of type {content.get('model_type')} and has no text tower: {_CHOOSE}")

    source = find(name, revision=revision or None, cache_dir=cache_dir, accept=accept)
    is_local = Path(source.name).is_absolute()
    if is_local:
        files = [source.folder / file for file in _TOKENIZER_FILES if (source.folder / file).is_file()]
    else:
        files = _hub_tokenizer(source, cache_dir)
    if not _VOCABULARIES & {path.name for path in files}:
        raise UserError(f"{name} has no tokenizer ({' or '.join(sorted(_VOCABULARIES))}): add the one of the model")
    own = checksum(files) if is_local else ""
    if tokenizer and tokenizer != own:
        raise UserError(f"the tokenizer in {source.folder} is another one than at submit: put it back, or submit anew")
    model_type = str(read_json(source.folder / CONFIG_FILE)["model_type"])
    return TextModel(source.name, source.revision, model_type, own, source.folder)


def _hub_tokenizer(source: Source, cache_dir: Path | None) -> list[Path]:
    """The tokenizer's files of a hub model; without a connection those of the cache, if the words are among them."""
    found: list[Path] = []
    unreachable: ServiceError | None = None
    for file in _TOKENIZER_FILES:
        try:
            path = first_hub_file(source.name, (file,), commit=source.revision, cache_dir=cache_dir)
        except ServiceError as error:
            unreachable = error
            continue
        if path is not None:
            found.append(path)
    if unreachable is not None and not _VOCABULARIES & {path.name for path in found}:
        raise unreachable
    return found
