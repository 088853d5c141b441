"""Python that one copies from a page: the same question to the API of `import hsae`."""

from collections.abc import Mapping, Sequence
from typing import Any

from hsae.explorer.scope import Scope

_OPEN = ("import hsae", "", "ws = hsae.open()")


def python_studies() -> str:
    """The studies."""
    return "\n".join([*_OPEN, "ws.studies()"])


def python_study(scope: Scope, method: str, *given: Any, **arguments: Any) -> str:
    """A method of the study of a page; arguments that are None are left out."""
    call = f"{method}({_given(given, arguments)})"
    return "\n".join([*_OPEN, f"st = ws.study({scope.study})", f"st.{call}"])


def python_analysis(scope: Scope, method: str, *given: Any, **arguments: Any) -> str:
    """A method of the analysis of a page, or of each of its analyses; arguments that are None are left out."""
    call = f"{method}({_given(given, arguments)})"
    if scope.chosen is None:
        numbers = ", ".join(str(number) for number in scope.wanted)
        return "\n".join([*_OPEN, f"rows = [ws.analysis(number).{call} for number in [{numbers}]]"])
    return "\n".join([*_OPEN, *_analysis(scope), f"an.{call}"])


def python_family(scope: Scope, latent: int, *, basis: str | None) -> str:
    """The parents and the children of a latent: a table of each."""
    *before, parents = python_analysis(scope, "pairs", child=latent, basis=basis).splitlines()
    children = python_analysis(scope, "pairs", parent=latent, basis=basis).splitlines()[-1]
    return "\n".join([*before, f"{parents}, {children}"])


def python_latents(scope: Scope, *, others: Sequence[str], **arguments: Any) -> str:
    """The latents of a page.

    Args:
        scope: the study and the analysis.
        others: filters of the page that the API does not have, for a comment.
        arguments: of `latents`.
    """
    lines = python_analysis(scope, "latents", **arguments).splitlines()
    if others:
        lines.append(f"# The page also filters by {', '.join(others)}: its SQL does the same.")
    return "\n".join(lines)


def python_encode(scope: Scope) -> str:
    """One's own image, encoded and explained."""
    lines = python_analysis(scope, "encode", ["my.jpg"]).splitlines()
    return "\n".join([*lines[:-1], f"z = {lines[-1]}", "an.explain(z[0])"])


def python_edit(scope: Scope, latents: Sequence[int], kind: str, value: float) -> str:
    """Latents of one's own image, edited."""
    *before, call = python_analysis(
        scope, "edit", ["my.jpg"], list(latents) or [0], kind=None if kind == "scale" else kind, value=value or None
    ).splitlines()
    return "\n".join([*before, f"{call}.to_pandas()"])


def _analysis(scope: Scope) -> list[str]:
    chosen = scope.chosen
    assert chosen is not None  # noqa: S101 -- narrows the type
    if scope.study is None:
        return [f"an = ws.analysis({chosen.id})"]
    same = [one for one in scope.analyses if (one.layer, one.kind) == (chosen.layer, chosen.kind)]
    by_name = f"layer={chosen.layer}, sae={_literal(chosen.kind)}" if len(same) == 1 else f"number={chosen.id}"
    return [f"st = ws.study({scope.study})", f"an = st.analysis({by_name})"]


def _given(given: Sequence[Any], arguments: Mapping[str, Any]) -> str:
    named = [f"{name}={_literal(value)}" for name, value in arguments.items() if value is not None]
    return ", ".join([_literal(value) for value in given] + named)


def _literal(value: Any) -> str:
    """A Python literal; a text in double quotes, of ASCII alone, so that nothing in it can end it."""
    if isinstance(value, list):
        return f"[{', '.join(_literal(one) for one in value)}]"
    if isinstance(value, str):
        return '"' + ascii(value)[1:-1].replace("\\'", "'").replace('"', '\\"') + '"'
    return repr(value)
