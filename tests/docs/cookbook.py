"""The queries of docs/sql.md."""

import re
from pathlib import Path

_PAGE = Path(__file__).parents[2] / "docs" / "sql.md"


def cookbook() -> list[str]:
    """All queries of the page."""
    return re.findall(r"```sql\n(.*?)```", _PAGE.read_text(), re.DOTALL)


def cookbook_query(question: str) -> str:
    """The one query under a heading of the page."""
    section = _PAGE.read_text().split(f"### {question}\n")[1].split("\n#")[0]
    (query,) = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    return str(query)
