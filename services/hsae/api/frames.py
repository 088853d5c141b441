"""pandas tables of rows; pandas is optional, and only what returns a table needs it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hsae.errors import UserError
from hsae.extras import install_extra

if TYPE_CHECKING:
    import pandas as pd

_ADVICE = install_extra("notebook")


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
