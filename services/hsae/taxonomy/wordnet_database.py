"""Find a WordNet 3.0 noun database: the user's, NLTK's, or the one shipped with hsae.

The files are always read into memory (20 MB). Nothing is unpacked, so there is no cache folder that could be stale or
written by two processes, and NLTK's sandbox, which refuses files outside `nltk.data.path`, does not apply.
"""

import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from hsae.errors import UserError

REQUIRED_VERSION = "3.0"
_NOUN_FILES = ("data.noun", "index.noun")
_AUXILIARY_FILES = ("noun.exc", "lexnames", "cntlist.rev")
_SHIPPED_ARCHIVE = "wordnet-3.0-nouns.zip"


@dataclass(frozen=True, slots=True)
class NounDatabase:
    """The files of a WordNet noun database by name, and their origin (for error messages)."""

    origin: str
    files: Mapping[str, bytes]


def load_noun_database(folder: Path | None, nltk_data_path: list[str]) -> NounDatabase:
    """The first of: `folder`, `corpora/wordnet` below NLTK's data path if it is version 3.0, the shipped database.

    Raises:
        UserError: `folder` is no valid WordNet 3.0 noun database. (An invalid copy of NLTK's is skipped.)
    """
    if folder is not None:
        try:
            database = _read_folder(folder)
        except OSError as error:
            raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error
        problem = _problem(database)
        if problem:
            raise UserError(f"{folder}: {problem}; unset HSAE_WORDNET to use the WordNet 3.0 that ships with hsae")
        return _complete(database)
    for data_folder in nltk_data_path:
        found = _read_nltk_data(Path(data_folder) / "corpora")
        if found is not None:
            return _complete(found)
    return _shipped_database()


def _shipped_database() -> NounDatabase:
    with (
        (resources.files("hsae.taxonomy") / "wordnet" / _SHIPPED_ARCHIVE).open("rb") as stream,
        zipfile.ZipFile(stream) as archive,
    ):
        files = {name: archive.read(name) for name in _NOUN_FILES + _AUXILIARY_FILES}
    return NounDatabase("the WordNet 3.0 that ships with hsae", files)


def _read_folder(folder: Path) -> NounDatabase:
    """The noun files that are in the folder."""
    names = {entry.name for entry in folder.iterdir()}
    files = {name: (folder / name).read_bytes() for name in _NOUN_FILES + _AUXILIARY_FILES if name in names}
    return NounDatabase(str(folder), files)


def _read_zip(path: Path) -> NounDatabase:
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        files = {
            name: archive.read(f"wordnet/{name}")
            for name in _NOUN_FILES + _AUXILIARY_FILES
            if f"wordnet/{name}" in names
        }
    return NounDatabase(str(path), files)


def _read_nltk_data(corpora: Path) -> NounDatabase | None:
    """NLTK's copy: a corpus is unpacked as `corpora/wordnet`, packed as `corpora/wordnet.zip`, or both."""
    for read, path in ((_read_folder, corpora / "wordnet"), (_read_zip, corpora / "wordnet.zip")):
        try:
            database = read(path)
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError):
            continue  # usually absent; an unreadable copy is skipped like one of another version
        if _problem(database) is None:
            return database
    return None


def _complete(database: NounDatabase) -> NounDatabase:
    """Add missing auxiliary files; no synset, name or hypernym depends on them."""
    missing = [name for name in _AUXILIARY_FILES if name not in database.files]
    if not missing:
        return database
    shipped = _shipped_database().files
    return NounDatabase(database.origin, dict(database.files) | {name: shipped[name] for name in missing})


def _problem(database: NounDatabase) -> str | None:
    """Why this is no valid WordNet 3.0 noun database; None if it is valid."""
    for name in _NOUN_FILES:
        if name not in database.files:
            return f"holds no {name}"
    nouns = database.files["data.noun"]
    match = re.search(rb"WordNet (\d+(?:\.\d+)?\+?) Copyright", nouns[:4096])
    version = match[1].decode() if match else "of an unknown version"
    if version != REQUIRED_VERSION:
        return (
            f"is WordNet {version}, and hsae needs {REQUIRED_VERSION}: wnids such as ImageNet's are byte"
            " offsets into the 3.0 files and name other synsets, or none, in any other version"
        )
    last_line = nouns.rstrip(b"\n").rfind(b"\n") + 1
    if not nouns.endswith(b"\n") or not nouns.startswith(b"%08d " % last_line, last_line):
        return "has a data.noun whose lines are not at their offsets (cut short, or line ends converted)"
    return None
