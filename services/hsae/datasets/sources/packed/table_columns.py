"""Which columns of a table hold the images, their labels and their groups."""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from hsae.datasets.sources.mistakes import Mistakes
from hsae.errors import UserError

_LABEL_NAMES = ("label", "labels", "class", "wnid", "synset", "category", "fine_label")


def columns_of(schema: pa.Schema, settings: Mapping[str, str], where: str, hint: str) -> dict[str, str]:
    """The names of the columns `image`, `label` and, where it is asked for, `group`.

    Args:
        schema: of the table.
        settings: the columns that the user named, by what they hold.
        where: the file, for messages.
        hint: how a column is named, such as `parquet:///data/x.parquet?`.

    Raises:
        UserError: a column is not there, cannot be told, or holds something else; all such mistakes together.
    """
    mistakes = Mistakes()
    found: dict[str, str] = {}
    lacking = sorted({settings[name] for name in ("image", "label", "group") if name in settings} - set(schema.names))
    if lacking:
        mistakes.add(f"{where}: has no column {', '.join(lacking)}; it has {', '.join(schema.names)}")
    for name, choose in (("image", image_column), ("label", _label_column)):
        if settings.get(name) not in lacking:
            with mistakes.kept():
                found[name] = choose(schema, settings.get(name), where, hint)
    found |= {"group": settings["group"]} if "group" in settings else {}
    twice = sorted(name for name in set(found.values()) if schema.names.count(name) > 1)
    if twice:
        mistakes.add(f"{where}: has several columns called {', '.join(twice)}; rename all but one")
    mistakes.raise_all()
    return found


def image_column(schema: pa.Schema, given: str | None, where: str, hint: str) -> str:
    """The column of images: the one that is given, or the only one of bytes.

    Raises:
        UserError: it holds no bytes, or there are several or none.
    """
    found = [field.name for field in schema if _holds_bytes(field.type)]
    if given is not None and given not in found:
        there = f"the columns of bytes are {', '.join(found)}" if found else "no column holds bytes"
        kind = schema.types[schema.names.index(given)] if given in schema.names else "nothing"
        raise UserError(f"{where}: column {given} holds no images but {kind}; {there}")
    if given is None and len(found) != 1:
        many = f"several columns of bytes ({', '.join(found)})" if found else "no column of bytes"
        raise UserError(
            f"{where}: has {many} among {', '.join(schema.names)}; name the images' column: {hint}image=NAME"
        )
    return str(found[0] if given is None else given)


def class_names_in(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """The class names that `datasets` writes into the metadata."""
    try:
        feature = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][column]
        feature = feature[0] if isinstance(feature, list) else feature.get("feature", feature)
        return tuple(map(str, feature["names"]))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError):
        return None


def content_of(cell: Any) -> tuple[bytes | None, str | None]:
    """The bytes of an image's cell, and the path that it names in their place."""
    if isinstance(cell, Mapping):
        return cell.get("bytes"), cell.get("path")
    return cell, None


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        number = kind.get_field_index("bytes")
        return number >= 0 and _holds_bytes(kind.field(number).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _label_column(schema: pa.Schema, given: str | None, where: str, hint: str) -> str:
    if given is not None:
        return given
    found = [name for name in _LABEL_NAMES if name in schema.names]
    if len(found) != 1:
        many = f"the columns {' and '.join(found)}" if found else f"no column {', '.join(_LABEL_NAMES)}"
        raise UserError(
            f"{where}: has {many} (all: {', '.join(schema.names)}); name the labels' column: {hint}label=NAME"
        )
    return found[0]
