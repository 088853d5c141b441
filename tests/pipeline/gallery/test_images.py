"""Image files by data set and path."""

import pytest

from hsae.demo import images_folder
from hsae.errors import UserError
from hsae.pipeline.gallery import images
from hsae.pipeline.gallery.images import read_image


def test_the_bytes_of_the_file():
    root = images_folder()
    file = min(root.rglob("*.webp"))
    path = file.relative_to(root).as_posix()
    assert read_image(str(root), path) == file.read_bytes()
    assert read_image(root.as_uri(), path) == file.read_bytes()
    assert read_image("/anywhere", str(file)) == file.read_bytes(), "a CSV may list absolute paths"


@pytest.mark.parametrize(
    ("root", "path", "message"),
    [
        ("not-mounted", "a.png", "not-mounted: the data set's folder is not on this machine"),
        (".", "a.png", "a.png: the file is gone"),
        (".", "large.bin", "large.bin: has more than 0 MiB"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, monkeypatch, root, path, message):
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 10)
    (tmp_path / "large.bin").write_bytes(b"0" * 11)
    with pytest.raises(UserError, match=message) as caught:
        read_image(str(tmp_path / root), path)
    assert "\n" not in str(caught.value)
