"""A YAML file of plain values, with a line for whatever is wrong with it."""

from pathlib import Path
from typing import Any

import yaml

from hsae.errors import UserError

_MAX_BYTES = 1_000_000


class _Loader(yaml.SafeLoader):
    """Plain values only, and an error for a repeated key, of which YAML's own loader silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue  # refused below
            key = key_node.value
            if key in seen:
                raise UserError(f"line {key_node.start_mark.line + 1}: {key} is given twice: leave one out")
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_yaml(path: Path) -> Any:
    """The plain values of a YAML file.

    Raises:
        UserError: it cannot be read, is huge or no YAML; the line says where.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror or error}): give the path of a study file") from error
    if len(content) > _MAX_BYTES:
        raise UserError(f"it has {len(content)} bytes, which is no study file: give one of at most {_MAX_BYTES}")
    try:
        return yaml.load(content.decode(), _Loader)  # noqa: S506 -- a SafeLoader
    except UnicodeDecodeError as error:
        raise UserError(f"it is no UTF-8 text (byte {error.start}): save it as UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else "somewhere"
        raise UserError(f"{place}: {error.problem or error.context}: correct the YAML") from error
    except yaml.YAMLError as error:
        raise UserError(f"it is no YAML ({error})") from error
    except RecursionError as error:
        raise UserError("it is nested too deeply: write a flat study file") from error
