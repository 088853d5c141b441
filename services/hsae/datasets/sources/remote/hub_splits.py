"""Which Parquet files of a hub data set are which split, by their names."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hsae.datasets.sources.mistakes import Mistakes
from hsae.errors import UserError

_SUFFIX = ".parquet"
_NAME = re.compile(r"(?P<split>.*?)(-(?P<number>\d+)-of-(?P<total>\d+))?(-[0-9a-f]{16})?")
_NO_SUBSET = ("data", "default")
_SHOWN = 8


class Part(NamedTuple):
    """The subset and split of a file. The subset that a repository calls no name is `default`."""

    subset: str
    split: str


def part_of(name: str) -> Part:
    """Where a file belongs: `data/train-00000-of-00004.parquet`, `large/train/0000.parquet`, `test.parquet`."""
    *folders, last = name.removesuffix(_SUFFIX).split("/")
    found = _NAME.fullmatch(last)
    split = found["split"] if found else last
    if split.isdecimal() and folders:
        split = folders.pop()
    subset = "/".join(folders)
    return Part("default" if subset in {"", *_NO_SUBSET} else subset, split)


def chosen(names: Iterable[str], *, subset: str | None, split: str | None, place: str) -> list[str]:
    """The files of one split of one subset, sorted.

    Args:
        names: of all Parquet files of the repository.
        subset: the one that was asked for; None: the only one.
        split: the one that was asked for; None: the only one.
        place: the repository as the user names it, `hf:owner/name`.

    Raises:
        UserError: there is no such subset or split, there are several and none was named, or some of its files are
            missing.
    """
    files: defaultdict[Part, list[str]] = defaultdict(list)
    for name in sorted(names):
        files[part_of(name)].append(name)
    subsets = sorted({part.subset for part in files if split in {None, part.split}})
    splits = sorted({part.split for part in files if subset in {None, part.subset}})
    mistakes = Mistakes()
    if split not in {None, *splits}:
        mistakes.add(f"{place}: has no split {split}; it has {_some(splits)}")
    if subset is not None and subset not in {part.subset for part in files}:
        mistakes.add(f"{place}: has no subset {subset}; it has {_some(sorted({part.subset for part in files}))}")
    mistakes.raise_all()
    if subset is None and len(subsets) > 1:
        mistakes.add(f"{place}: has the subsets {_some(subsets)}; name one: ?subset={subsets[0]}")
    if split is None and len(splits) > 1:
        mistakes.add(f"{place}: has the splits {_some(splits)}; name one: {place}:{splits[0]}")
    mistakes.raise_all()
    found = files[Part(subsets[0] if subset is None else subset, splits[0] if split is None else split)]
    _check_complete(found, place)
    return found


def _check_complete(names: Sequence[str], place: str) -> None:
    """Whether all files are there of those that say how many they are."""
    numbers = [found for name in names if (found := re.search(r"-(\d+)-of-(\d+)", name.rpartition("/")[2]))]
    totals = {int(found[2]) for found in numbers}
    if len(totals) == 1 and len(numbers) == len(names):
        missing = sorted(set(range(totals.pop())) - {int(found[1]) for found in numbers})
        if missing:
            raise UserError(
                f"{place}: lacks {len(missing)} of its files, such as number {missing[0]} beside {names[0]}; where"
                " HF_HUB_OFFLINE is set, download the rest first"
            )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
