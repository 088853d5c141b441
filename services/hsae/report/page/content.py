"""What a report says, before it becomes a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hsae.report.charts.histogram import ActivationHistogram
from hsae.report.charts.taxonomy import TaxonomyChart
from hsae.report.charts.theme import Figure


@dataclass(frozen=True, slots=True)
class CardImage:
    """One image of a card.

    Attributes:
        source: a `data:` URI; None where the image cannot be shown.
        text: what it shows, and how strongly the latent fires: its text alternative.
        is_under_label: whether it is of the latent's label; None where that is unknown.
    """

    source: str | None
    text: str
    is_under_label: bool | None


@dataclass(frozen=True, slots=True)
class ImageRow:
    """A row of images of a card, such as a latent's strongest images."""

    title: str
    images: Sequence[CardImage]


@dataclass(frozen=True, slots=True)
class Value:
    """A number of a card as text, and what it is by chance or for a control."""

    name: str
    value: str
    beside: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """One latent.

    Attributes:
        anchor: of links to it.
        label: name of the node that it stands for.
        definition: of the node.
        summary: one line: layer, SAE, number.
        layer: the layer.
        sae: name of the SAE.
        scale: adjusted F1, which orders nothing but is drawn as a bar; None where undefined.
        rows: rows of images; further kinds of images are further rows.
        values: its numbers.
        histogram: of its activations; None where they could not be read.
        is_used: whether interventions found that the model uses it for its label.
    """

    anchor: str
    label: str
    definition: str
    summary: str
    layer: int
    sae: str
    scale: float | None
    rows: Sequence[ImageRow]
    values: Sequence[Value]
    histogram: ActivationHistogram | None
    is_used: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table that a reader may take along as a CSV.

    Attributes:
        name: of the file, without its suffix.
        title: for people.
        columns: heading by the name in the rows.
        rows: the rows.
        shown: whether the page prints it, too.
        note: a sentence below it.
    """

    name: str
    title: str
    columns: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]]
    shown: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class ReportContent:
    """Everything that the page shows.

    Attributes:
        title: backbone and data set.
        study: number of the study.
        facts: name and text of what was measured.
        answer: the verdict in a few words.
        verdict: the verdict in a sentence.
        beyond: how it stands to the nulls, in a sentence.
        known: what the model knows best, in a sentence.
        in_sample: whether the images that are scored trained the SAEs.
        unfinished: why the study is not complete; empty where it is.
        halves: what a cross-fitted study is, and what is averaged; empty for others.
        hero: figures of the first screen, by title.
        layers: figures of the layers, by title.
        pareto: figures of SAEs, by title.
        edits: figures of what edits of latents took away, by title.
        abouts: a sentence about a figure, by title.
        taxonomy: the taxonomy; None where no node was scored.
        cards: latents.
        n_labelled: latents that have a label, of which the cards are some.
        unmeasured: what was not measured, in sentences.
        tables: all tables.
        version: of hsae.
    """

    title: str
    study: int
    facts: Sequence[tuple[str, str]]
    answer: str
    verdict: str
    beyond: str
    known: str
    in_sample: bool
    hero: Mapping[str, Figure]
    layers: Mapping[str, Figure]
    pareto: Mapping[str, Figure]
    taxonomy: TaxonomyChart | None
    cards: Sequence[Card]
    n_labelled: int
    unmeasured: Sequence[str]
    tables: Sequence[Table]
    version: str
    unfinished: str = ""
    halves: str = ""
    edits: Mapping[str, Figure] = field(default_factory=dict)
    abouts: Mapping[str, str] = field(default_factory=dict)
