"""Image files by data set and path."""

import pytest
from tests.datasets.sources.test_arrow import saved
from tests.datasets.sources.test_parquet import cells, png, write

from hsae.datasets import source_at
from hsae.demo import images_folder
from hsae.errors import UserError
from hsae.pipeline.gallery import images
from hsae.pipeline.gallery.images import read_image, version_of


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


def test_images_inside_files(tmp_path):
    """Of a file whose images a data set has, the version is that of the file."""
    columns = {"image": cells([1, 2]), "label": [0, 1]}
    parquet = write(tmp_path / "x.parquet", columns)
    arrow = saved(tmp_path / "saved", [columns])
    for location in (str(parquet), f"parquet://{parquet}", str(arrow)):
        source = source_at(location)
        path = source.list().images[1].path
        assert read_image(source.root, path) == png(2)
        before = version_of(source.root, path)
        file = tmp_path / path.partition("/")[0] if location != str(arrow) else arrow / path.partition("/")[0]
        file.touch()
        assert before
        assert version_of(source.root, path) != before
    parquet.unlink()
    for action in (read_image, version_of):
        with pytest.raises(UserError, match=r"x\.parquet/000000001: the file is gone"):
            action(str(parquet), "x.parquet/000000001")
