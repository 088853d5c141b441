"""Tables of rows: of pandas, which is optional, and of HTML for notebooks, which need nothing else."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from hsae.errors import UserError
from hsae.extras import install_extra

if TYPE_CHECKING:
    import pandas as pd

_ADVICE = install_extra("notebook")
_ASKED = "hsae_asked"


def frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> "pd.DataFrame":
    """A table of rows.

    Args:
        rows: a mapping for each row, all with the same keys.
        columns: those that come first, in this order, where the rows have them; without rows the table has them alone.

    Raises:
        UserError: pandas is not installed.
    """
    try:
        import pandas as pd  # here, because it is optional
    except ImportError as error:
        raise UserError(f"this returns a table of pandas, which is not installed: {_ADVICE}") from error
    known = list(dict.fromkeys(name for row in rows for name in row))
    first = [name for name in columns if name in known or not rows]
    return pd.DataFrame.from_records(
        [dict(row) for row in rows], columns=[*first, *(name for name in known if name not in first)]
    )


def asked_frame(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], call: str, given: Mapping[str, Any]
) -> "pd.DataFrame":
    """A table of rows that knows what was asked, so that what is made of an empty one can say it.

    Args:
        rows: as `frame` has them.
        columns: as `frame` has them.
        call: the name of the function.
        given: its arguments; those that ask for nothing are left out.

    Raises:
        UserError: pandas is not installed.
    """
    found = frame(rows, columns)
    arguments = ", ".join(f"{name}={value!r}" for name, value in given.items() if value is not None and value != 0)
    found.attrs[_ASKED] = f"{call}({arguments})"
    return found


def what_was_asked(table: Any) -> str | None:
    """The question that a table, or a column or a part of one, answers; None of anything else."""
    found = getattr(table, "attrs", {}).get(_ASKED)
    return None if found is None else str(found)


def html_table(title: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Rows as a notebook shows them.

    Args:
        title: above the table.
        rows: a mapping for each row.
        columns: headings by the key of their values.
    """
    head = "".join(f"<th>{escape(heading)}</th>" for heading in columns.values())
    body = "".join(f"<tr>{''.join(f'<td>{_cell(row.get(name))}</td>' for name in columns)}</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if rows else ""
    return f'<div class="hsae-table"><div><b>{escape(title)}</b></div>{table}</div>'


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return escape(", ".join(map(str, value)))
    return escape(f"{value:.3g}" if isinstance(value, float) else str(value))
