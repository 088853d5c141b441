"""The backbone of a benchmark that is told of none."""

import os
from pathlib import Path

from hsae.demo import backbone_folder


def default_model() -> Path:
    """`dinov2-small` in the folder that HSAE_TEST_DATA names (as for the tests), else the bundled backbone."""
    material = os.environ.get("HSAE_TEST_DATA")
    folder = Path(material).resolve() / "dinov2-small" if material else None
    return folder if folder is not None and folder.is_dir() else backbone_folder()
