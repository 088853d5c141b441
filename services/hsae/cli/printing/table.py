"""A table that never breaks a name: columns that do not fit into the terminal are left out, and named below it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

_GAP = 2
_LEAST_PROSE = 16  # narrower, a sentence is a tower of words
_LEAST_CUT = 24

Cell = str | ProgressBar | tuple[str, ...]
"""A text, a bar, or a text with shorter forms of it: the longest one that fits is printed."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        key: its name in a row.
        heading: its heading.
        is_right: whether its cells are aligned to the right.
        breaks: what may happen to its cells in a narrow terminal: `never` keeps them whole, `words` continues them on
            another line, broken between words; `end` and `middle` cut them there.
        room: the width that it takes where there is enough, whatever its cells need, so that a table that is drawn
            again and again stands still; 0: as much as its cells need.
        least_room: where it has a room, the width below which it is left out.
    """

    key: str
    heading: str
    is_right: bool = False
    breaks: Literal["never", "words", "end", "middle"] = "never"
    room: int = 0
    least_room: int = 0


@dataclass(frozen=True, slots=True)
class Need:
    """The least width of a column, and the width at which no cell is broken."""

    key: str
    least: int
    full: int


def fit(needs: Sequence[Need], width: int, growing: Sequence[str] = ()) -> dict[str, int]:
    """Widths of the columns that fit into `width`; `needs` are sorted by importance.

    The first column always stays, even if it alone is wider. Remaining width goes to columns that need more, first to
    those in `growing`, in its order.
    """
    chosen: dict[str, int] = {}
    left = width + _GAP
    for need in needs:
        if not chosen or need.least + _GAP <= left:
            chosen[need.key] = need.least
            left -= need.least + _GAP
    rank = {key: place for place, key in enumerate(growing)}
    for need in sorted(needs, key=lambda need: rank.get(need.key, len(rank))):
        if need.key in chosen and left > 0:
            more = min(left, need.full - need.least)
            chosen[need.key] += more
            left -= more
    return chosen


@dataclass(frozen=True)
class FittedTable:
    """Rows of cells under `columns`.

    `importance` names columns, the most important first; the others follow in their order. The last is left out first.
    `growing` names those that get the width first which is left over.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    title: str | None = None
    importance: Sequence[str] = ()
    growing: Sequence[str] = ()
    one_line_note: bool = False
    """Whether what says which columns are left out takes one line and no more."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self.widths(options.max_width)
        if self.title is not None:
            yield Text(self.title, style="italic", overflow="ignore")
        shown = [(place, column) for place, column in enumerate(self.columns) if column.key in widths]
        inner = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP // 2))
        for _, column in shown:
            inner.add_column(
                Text(column.heading),
                justify="right" if column.is_right else "left",
                width=widths[column.key],
                no_wrap=column.breaks != "words",
                overflow="ellipsis" if column.breaks == "end" else "fold",
            )
        for row in self.rows:
            inner.add_row(*(_rendered(row[place], column, widths[column.key]) for place, column in shown))
        total = sum(widths.values()) + _GAP * (len(widths) - 1)
        rendered = console.render(inner, options.update(width=max(total, options.max_width)))
        for line in Segment.split_lines(rendered):
            yield from _without_trailing_spaces(line)
            yield Segment.line()
        if len(shown) < len(self.columns):
            note = f"Left out at {options.max_width} columns: {', '.join(self.left_out(widths))}"
            if self.one_line_note:
                yield Text(note, style="dim", no_wrap=True, overflow="ellipsis")
            else:
                yield Text(f"{note}; a wider terminal or `| less -S` shows them.", style="dim")

    def widths(self, width: int) -> dict[str, int]:
        """The columns that are printed at `width`, and the width of each."""
        rank = {key: place for place, key in enumerate(self.importance)}
        needs = list(self._needs())
        return fit(sorted(needs, key=lambda need: rank.get(need.key, len(rank))), width, self.growing)

    def left_out(self, widths: dict[str, int]) -> list[str]:
        """The headings of the other columns; keys if several have the same heading."""
        headings = {column.key: " ".join(column.heading.split()) for column in self.columns}
        count = Counter(headings.values())
        return [
            heading if heading and count[heading] == 1 else key
            for key, heading in headings.items()
            if key not in widths
        ]

    def _needs(self) -> Iterator[Need]:
        for place, column in enumerate(self.columns):
            words, full = _measure(column.heading)
            least = full
            if column.room:
                least = max(full, column.least_room)
                yield Need(column.key, least, max(least, column.room))
                continue
            for row in self.rows:
                longest_word, whole = _measure(row[place])
                full, words = max(full, whole), max(words, longest_word)
            if column.breaks == "never":
                least = full
            elif column.breaks == "words":
                least = max(least, words, min(full, _LEAST_PROSE))
            else:
                least = max(least, min(full, _LEAST_CUT))
            yield Need(column.key, least, full)


def _without_trailing_spaces(line: list[Segment]) -> list[Segment]:
    """The line without the blanks that fill its last cells: whoever reads a pipe would keep them."""
    kept = list(line)
    while kept and not kept[-1].text.strip():
        kept.pop()
    if kept:
        text, style, control = kept[-1]
        kept[-1] = Segment(text.rstrip(), style, control)
    return kept


def _rendered(cell: Cell, column: Column, width: int) -> RenderableType:
    if isinstance(cell, tuple):
        cell = next((form for form in cell if cell_len(form) <= width), cell[-1])
    if not isinstance(cell, str):
        return cell
    if column.breaks == "middle" and cell_len(cell) > width:
        n_behind = width * 3 // 8
        behind = chop_cells(cell[::-1], n_behind)[0][::-1]
        return Text(f"{chop_cells(cell, width - n_behind - 1)[0]}…{behind}")
    return Text(cell)


def _measure(cell: Cell) -> tuple[int, int]:
    """Width of the longest word, and of the longest line."""
    if isinstance(cell, tuple):
        return _measure(cell[0])
    if isinstance(cell, str):
        return max(map(cell_len, cell.split()), default=0), max(map(cell_len, cell.splitlines()), default=0)
    return cell.width or 0, cell.width or 0
