"""Activations read from copies of objects are those of the pipeline's own reader; the copies are bounded."""

import fcntl
from pathlib import Path

import numpy as np
import pytest

from hsae.errors import UserError
from hsae.explorer.reading.stored_latents import StoredLatents
from hsae.pipeline.stages.latent_activations import get_latent_activations
from hsae.store.keys import latents_key


@pytest.fixture
def stored(explored):
    return explored.sql(
        "SELECT a.key, a.activations_sha256 AS sha256 FROM analysis a JOIN analysis_input i ON i.analysis_id = a.id"
        " WHERE i.dataset = 'small' ORDER BY a.id"
    )


def test_they_are_what_the_pipeline_reads(explored, stored, tmp_path, monkeypatch):
    monkeypatch.setattr("hsae.explorer.reading.stored_latents._ENTRIES_AT_ONCE", 7)
    latents = StoredLatents(explored.service.store, tmp_path)
    whole = get_latent_activations(explored.service.store, stored[0]["key"], stored[0]["sha256"])
    z = whole.z.toarray()
    for row in (0, 1, len(whole.images) - 1):
        firing = latents.of_image(stored[0]["key"], stored[0]["sha256"], int(whole.images[row]))
        assert sorted(firing.where.tolist()) == np.flatnonzero(z[row] > 0).tolist()
        np.testing.assert_array_equal(firing.activations, z[row][firing.where])
        assert (np.diff(firing.activations) <= 0).all()
    busiest = int((z > 0).sum(0).argmax())
    for latent in (busiest, int((z > 0).sum(0).argmin())):
        firing, n_images = latents.of_latent(stored[0]["key"], stored[0]["sha256"], latent)
        assert n_images == len(whole.images)
        assert sorted(firing.where.tolist()) == sorted(whole.images[z[:, latent] > 0].tolist())
        column = dict(zip(whole.images.tolist(), z[:, latent].tolist(), strict=True))
        assert firing.activations.tolist() == [column[image] for image in firing.where.tolist()]
    assert latents.of_image(stored[0]["key"], stored[0]["sha256"], 10**6) is None


def test_copies_that_were_not_used_longest_are_deleted(explored, stored, tmp_path):
    size = explored.service.store.stat(latents_key(stored[0]["key"], stored[0]["sha256"]))
    latents = StoredLatents(explored.service.store, tmp_path, max_bytes=int(1.5 * size))
    for one in stored:
        latents.of_image(one["key"], one["sha256"], 0)
    assert [path.name for path in tmp_path.iterdir()] == [stored[1]["sha256"]]
    assert latents.of_image(stored[0]["key"], stored[0]["sha256"], 0) is not None
    assert [path.name for path in tmp_path.iterdir()] == [stored[0]["sha256"]]


def test_what_a_killed_process_left_is_deleted_and_what_is_being_copied_counts(explored, stored, tmp_path):
    size = explored.service.store.stat(latents_key(stored[0]["key"], stored[0]["sha256"]))
    (tmp_path / ".left").write_bytes(b"0" * size)
    latents = StoredLatents(explored.service.store, tmp_path, max_bytes=int(2.5 * size))
    latents.of_image(stored[0]["key"], stored[0]["sha256"], 0)
    assert [path.name for path in tmp_path.iterdir()] == [stored[0]["sha256"]]
    with (tmp_path / ".others").open("wb") as others:
        fcntl.flock(others, fcntl.LOCK_EX)
        others.truncate(2 * size)
        latents.of_image(stored[1]["key"], stored[1]["sha256"], 0)
        assert {path.name for path in tmp_path.iterdir()} == {".others", stored[1]["sha256"]}


def test_a_copy_that_another_explorer_deletes_is_copied_again(explored, stored, tmp_path, monkeypatch):
    latents = StoredLatents(explored.service.store, tmp_path)
    copy, n_copies = latents._copy, []

    def then_deleted(*given):
        path = copy(*given)
        n_copies.append(path)
        if len(n_copies) == 1:
            path.unlink()
        return path

    monkeypatch.setattr(latents, "_copy", then_deleted)
    assert latents.of_image(stored[0]["key"], stored[0]["sha256"], 0) is not None
    assert len(n_copies) == 2


def test_a_file_that_another_explorer_deletes_meanwhile_is_passed_over(explored, stored, tmp_path, monkeypatch):
    gone = tmp_path / ("0" * 64)
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: [*iterdir(folder), gone, folder / ".gone"])
    latents = StoredLatents(explored.service.store, tmp_path, max_bytes=1)
    assert latents.of_image(stored[0]["key"], stored[0]["sha256"], 0) is not None


@pytest.mark.parametrize("damage", [b"", b"rotten", None], ids=["empty", "garbage", "cut off"])
def test_a_copy_that_is_damaged_on_disk_is_copied_again(explored, stored, tmp_path, damage):
    latents = StoredLatents(explored.service.store, tmp_path)
    whole = latents.of_image(stored[0]["key"], stored[0]["sha256"], 0)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-8] if damage is None else damage)
    again = latents.of_image(stored[0]["key"], stored[0]["sha256"], 0)
    np.testing.assert_array_equal(again.activations, whole.activations)


def test_an_object_that_is_lost_or_rotten_leaves_no_copy(explored, stored, tmp_path):
    latents = StoredLatents(explored.service.store, tmp_path)
    with pytest.raises(UserError, match="latents-"):
        latents.of_image("no-such-analysis", stored[0]["sha256"], 0)
    key = latents_key(stored[0]["key"], stored[0]["sha256"])
    content = explored.service.store.get(key)
    try:
        explored.service.store.put(key, content[:-4] + b"rots")
        with pytest.raises(UserError, match="sha256"):
            latents.of_image(stored[0]["key"], stored[0]["sha256"], 0)
    finally:
        explored.service.store.put(key, content)
    assert list(tmp_path.iterdir()) == []
    page = explored.get(f"/latent/{explored.one('SELECT min(id) FROM analysis')}/sae/1")
    assert "Activations" in page


def test_a_folder_that_cannot_be_written_is_named(explored, stored, tmp_path):
    place = tmp_path / "file"
    place.write_text("no folder")
    with pytest.raises(UserError, match="choose another --cache"):
        StoredLatents(explored.service.store, place).of_image(stored[0]["key"], stored[0]["sha256"], 0)
