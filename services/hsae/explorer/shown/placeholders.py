"""A picture in place of one that cannot be shown: it says why."""

import textwrap
from xml.sax.saxutils import escape

_LINE_CHARACTERS = 26
_N_LINES = 7


def placeholder(reason: str, side: int) -> str:
    """An SVG with the reason in a few lines; the text is escaped."""
    printable = "".join(character if character.isprintable() else "\ufffd" for character in reason)
    lines = textwrap.wrap(printable, _LINE_CHARACTERS, max_lines=_N_LINES, placeholder=" …")
    spans = "".join(f'<tspan x="8" dy="14">{escape(line)}</tspan>' for line in lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{side}" height="{side}" viewBox="0 0 160 160" role="img">'
        f"<title>{escape(printable)}</title>"
        '<rect width="160" height="160" fill="#6b6b6b"/>'
        f'<text x="8" y="14" font-family="sans-serif" font-size="10.5" fill="#ffffff">{spans}</text></svg>'
    )
