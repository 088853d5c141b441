"""Listings of images with one or several classes, for the tests of the split."""

from typing import Any

import pyarrow as pa
from hypothesis import strategies as st


def listing_of(sets, groups=None):
    """A listing of images with these sets of classes; `groups`: of every image."""
    several = any(len(ids) > 1 for ids in sets)
    columns: dict[str, list[Any]] = {"path": [f"{i:05}.png" for i in range(len(sets))]}
    columns["class_ids" if several else "class_id"] = (
        [list(ids) for ids in sets] if several else [ids[0] for ids in sets]
    )
    return pa.table(columns | ({} if groups is None else {"group": groups}))


class_sets = st.lists(st.sets(st.sampled_from("abcde"), min_size=1, max_size=3).map(lambda ids: tuple(sorted(ids))),
                      min_size=4, max_size=80)  # fmt: skip
