"""Copies of objects are bounded, checked, and made by few threads, each without waiting for other objects."""

import fcntl
import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from hsae.errors import ServiceError, UserError
from hsae.explorer.reading import local_copies
from hsae.explorer.reading.local_copies import MAX_THREADS_COPYING, LocalCopies
from hsae.store.keys import latents_key

BIG = 1 << 30


@pytest.fixture
def objects(explored, stored_latents) -> list[tuple[str, str]]:
    """Keys and checksums of two objects."""
    return [(latents_key(one["key"], one["sha256"]), one["sha256"]) for one in stored_latents]


@pytest.fixture
def size(explored, objects) -> int:
    return explored.service.store.stat(objects[0][0])


def values(copies: LocalCopies, wanted: tuple[str, str]) -> np.ndarray:
    """All bytes of all tensors of an object."""
    with copies.opened(*wanted) as file:
        return np.concatenate([file.get_tensor(name).ravel().view(np.uint8) for name in sorted(file.keys())])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class Held:
    """A store whose `check` waits, for some objects, until it is let go."""

    def __init__(self, store, held) -> None:
        self._store, self._held = store, held
        self.begun, self.go, self.n_copies = Event(), Event(), 0

    def check(self, key, **options):
        self.n_copies += 1
        if key in self._held:
            self.begun.set()
            assert self.go.wait(240)
        return self._store.check(key, **options)


def test_copies_that_were_not_used_longest_are_deleted(explored, objects, size, tmp_path):
    copies = LocalCopies(explored.service.store, tmp_path, max_bytes=int(1.5 * size))
    for one in objects:
        values(copies, one)
    assert names(tmp_path) == {objects[1][1]}
    values(copies, objects[0])
    assert names(tmp_path) == {objects[0][1]}


def test_what_a_killed_process_left_is_deleted_and_what_is_being_copied_counts(explored, objects, size, tmp_path):
    (tmp_path / ".left").write_bytes(b"0" * size)
    copies = LocalCopies(explored.service.store, tmp_path, max_bytes=int(2.5 * size))
    values(copies, objects[0])
    assert names(tmp_path) == {objects[0][1]}
    with (tmp_path / ".others").open("wb") as others:
        fcntl.flock(others, fcntl.LOCK_EX)
        others.truncate(2 * size)
        values(copies, objects[1])
        assert names(tmp_path) == {".others", objects[1][1]}


def test_a_copy_that_another_explorer_deletes_is_copied_again(explored, objects, tmp_path, monkeypatch):
    copies = LocalCopies(explored.service.store, tmp_path, max_bytes=BIG)
    sound, paths = copies._sound, []

    def then_deleted(*given):
        path = sound(*given)
        paths.append(path)
        if len(paths) == 1:
            path.unlink()
        return path

    monkeypatch.setattr(copies, "_sound", then_deleted)
    assert len(values(copies, objects[0])) > 0
    assert len(paths) == 2


def test_a_file_that_another_explorer_deletes_meanwhile_is_passed_over(explored, objects, tmp_path, monkeypatch):
    gone = tmp_path / ("0" * 64)
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: [*iterdir(folder), gone, folder / ".gone"])
    assert len(values(LocalCopies(explored.service.store, tmp_path, max_bytes=1), objects[0])) > 0


def rot(content: bytes) -> bytes:
    """One bit of the last value is another one; the file can be read as before."""
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "damaged",
    [lambda _: b"", lambda _: b"rotten", lambda content: content[:-8], rot],
    ids=["empty", "garbage", "cut off", "one bit"],
)
@pytest.mark.parametrize("is_restarted", [False, True], ids=["running", "restarted"])
def test_a_copy_that_is_damaged_on_disk_is_copied_again(explored, objects, tmp_path, damaged, is_restarted):
    copies = LocalCopies(explored.service.store, tmp_path, max_bytes=BIG)
    whole = values(copies, objects[0])
    (path,) = tmp_path.iterdir()
    path.write_bytes(damaged(path.read_bytes()))
    if is_restarted:
        copies = LocalCopies(explored.service.store, tmp_path, max_bytes=BIG)
    np.testing.assert_array_equal(values(copies, objects[0]), whole)


def test_rot_that_leaves_no_sign_is_found_when_the_copy_is_checked_again(explored, objects, tmp_path, monkeypatch):
    copies = LocalCopies(explored.service.store, tmp_path, max_bytes=BIG)
    whole = values(copies, objects[0])
    (path,) = tmp_path.iterdir()
    before = path.stat()
    path.write_bytes(rot(path.read_bytes()))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (values(copies, objects[0]) != whole).any(), "it was checked a moment ago"
    monkeypatch.setattr(local_copies, "_CHECK_AGAIN_SECONDS", -1.0)
    np.testing.assert_array_equal(values(copies, objects[0]), whole)


def test_a_sound_copy_is_not_copied_again(explored, objects, tmp_path):
    store: Any = Held(explored.service.store, held=())
    values(LocalCopies(store, tmp_path, max_bytes=BIG), objects[0])
    copies = LocalCopies(store, tmp_path, max_bytes=BIG)
    for _ in range(3):
        values(copies, objects[0])
    assert store.n_copies == 1


def test_who_wants_another_object_does_not_wait(explored, objects, tmp_path):
    store: Any = Held(explored.service.store, held={objects[0][0]})
    copies = LocalCopies(store, tmp_path, max_bytes=BIG)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(values, copies, objects[0])
        assert store.begun.wait(240)
        try:
            assert len(values(copies, objects[1])) > 0
            assert not slow.done()
        finally:
            store.go.set()
        assert len(slow.result()) > 0


def test_forty_readers_of_a_first_copy_do_not_fill_the_threads(explored, objects, tmp_path):
    store: Any = Held(explored.service.store, held={objects[0][0]})
    copies = LocalCopies(store, tmp_path, max_bytes=BIG)
    with ThreadPoolExecutor(40) as pool:
        readers = [pool.submit(values, copies, objects[0]) for _ in range(40)]
        assert store.begun.wait(240)
        refused = []
        try:
            # All but the few that may wait come back although the copy is not made.
            refused += islice(as_completed(readers, timeout=240), 40 - MAX_THREADS_COPYING)
        finally:
            store.go.set()
        for one in refused:
            with pytest.raises(ServiceError, match="try again in a moment"):
                one.result()
        assert [len(one.result()) > 0 for one in readers if one not in refused] == [True] * MAX_THREADS_COPYING
    assert store.n_copies == 1


def test_an_object_that_is_lost_or_rotten_leaves_no_copy(explored, objects, tmp_path):
    copies = LocalCopies(explored.service.store, tmp_path, max_bytes=BIG)
    with pytest.raises(UserError, match="latents-"):
        values(copies, (latents_key("no-such-analysis", objects[0][1]), objects[0][1]))
    key = objects[0][0]
    content = explored.service.store.get(key)
    try:
        explored.service.store.put(key, content[:-4] + b"rots")
        with pytest.raises(UserError, match="sha256"):
            values(copies, objects[0])
    finally:
        explored.service.store.put(key, content)
    assert list(tmp_path.iterdir()) == []
    page = explored.get(f"/latent/{explored.one('SELECT min(id) FROM analysis')}/sae/1")
    assert "Activations" in page


def test_a_folder_that_cannot_be_written_is_named(explored, objects, tmp_path):
    place = tmp_path / "file"
    place.write_text("no folder")
    with pytest.raises(UserError, match="choose another --cache"):
        values(LocalCopies(explored.service.store, place, max_bytes=BIG), objects[0])
