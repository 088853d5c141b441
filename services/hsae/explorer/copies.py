"""What one copies from a page: SQL that gives its rows, and Python that gives them in a notebook."""

from collections.abc import Mapping
from typing import Any

from hsae.explorer.scope import Scope


def python_call(scope: Scope, method: str, **arguments: Any) -> str:
    """Lines that ask the analysis of the page for the same.

    Args:
        scope: the study and the analysis.
        method: of the analysis, or of the study where the page is about all of its layers.
        arguments: of the call; those that are None are left out.
    """
    lines = ["import hsae", "", "ws = hsae.open()"]
    if scope.study is None:
        return "\n".join([*lines, "ws.studies()"])
    lines.append(f"st = ws.study({scope.study})")
    if scope.chosen is None:
        return "\n".join([*lines, f"st.{method}({_given(arguments)})"])
    chosen = scope.chosen
    lines.append(f"an = st.analysis(layer={chosen.layer}, sae={_literal(chosen.sae)})")
    return "\n".join([*lines, f"an.{method}({_given(arguments)})"])


def _given(arguments: Mapping[str, Any]) -> str:
    """Arguments of a call: the one named `_` comes first, without its name."""
    first = [_literal(value) for name, value in arguments.items() if name == "_" and value is not None]
    named = [f"{name}={_literal(value)}" for name, value in arguments.items() if name != "_" and value is not None]
    return ", ".join(first + named)


def _literal(value: Any) -> str:
    """A Python literal; a text in double quotes, of ASCII alone, so that nothing in it can end it."""
    if isinstance(value, str):
        inside = ascii(value)[1:-1].replace("\\'", "'").replace('"', '\\"')
        return f'"{inside}"'
    return repr(value)
