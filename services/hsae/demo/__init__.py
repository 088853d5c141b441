"""The bundled images and weights of the demonstration: emoji of 376 synsets, a small Dinov2 and a small CLIP."""

from pathlib import Path

from hsae.errors import UserError

_FOLDER = Path(__file__).parent
DATASET_NAME = "emoji"


def images_folder() -> Path:
    """The bundled images, one folder per synset."""
    return _present(_FOLDER / "images")


def images_listing() -> Path:
    """The CSV of the bundled images: path, label, group (the drawing style), and where each is from."""
    images_folder()
    return _FOLDER / "images.csv"


def backbone_folder() -> Path:
    """The bundled backbone in Hugging Face layout."""
    return _present(_FOLDER / "dinov2-emoji")


def clip_folder() -> Path:
    """The bundled CLIP in Hugging Face layout: images and names in one space."""
    return _present(_FOLDER / "clip-emoji")


def _present(folder: Path) -> Path:
    if not folder.is_dir():
        raise UserError(
            f"the demo's files are not installed ({folder} is missing): install hsae from its wheel or checkout"
        )
    return folder
