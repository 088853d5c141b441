"""Tables as CSV inside of links."""

import base64
import csv
import io

from hsae.report.page.content import Table


def csv_text(table: Table) -> str:
    """The table with the names of its columns, as other tools read them; empty where there is no value."""
    written = io.StringIO()
    writer = csv.DictWriter(written, list(table.columns), extrasaction="ignore", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(table.rows)
    return written.getvalue()


def csv_link(table: Table) -> str:
    """The CSV as a `data:` URI."""
    return "data:text/csv;charset=utf-8;base64," + base64.b64encode(csv_text(table).encode()).decode()


def cell(value: object) -> str:
    """A cell for people: three decimals, `–` for what is not known."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}".replace("-", "−")
    return str(value)
