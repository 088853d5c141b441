"""What latents of an analysis are called by text, and how many names agree with the labels."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hsae.api.frames import frame
from hsae.api.service.arguments import number_at_least_0
from hsae.api.service.reading import losses_noted
from hsae.catalog import transaction
from hsae.catalog.findings.text.listed import NameTable, listing
from hsae.catalog.queries.score_filter import ScoreFilter
from hsae.errors import UserError
from hsae.pipeline.connections import Connections
from hsae.pipeline.exports.result_rows import filtered_rows

if TYPE_CHECKING:
    import pandas as pd

_OF_SET = ("method", "text_model", "in_sample", "half", "layer", "sae", "analysis_id")
_COLUMNS: dict[NameTable, tuple[str, ...]] = {
    "names": (
        "latent", "word", "score", "margin", "runner_up", "synset", "label", "f1", "agreement_height", "n_images",
        *_OF_SET,
    ),
    "agreement": (
        "height", "n_latents", "n_agree", "n_agree_shuffled", "shuffled_low", "shuffled_high", "p", "n_words", *_OF_SET,
    ),
}  # fmt: skip


def name_table(
    connections: Connections,
    about: Mapping[str, Any],
    table: NameTable,
    *,
    under: str | None = None,
    concept: str | None = None,
    limit: int | None = None,
) -> "pd.DataFrame":
    """The names of an analysis' latents, or their agreement with the labels.

    Args:
        connections: the service.
        about: the analysis.
        table: which.
        under: name or wnid of a node; only names that mean a node at or below it.
        concept: a text; the latents nearest to it come first, with their cosine `concept`.
        limit: at most so many rows.

    Raises:
        UserError: the analysis has no names, the node is unknown, the text or a number is none, or pandas is missing.
    """
    wanted = ScoreFilter(
        analysis_ids=(int(about["id"]),), limit=None if limit is None else number_at_least_0("limit", limit)
    )
    if concept is not None and not isinstance(concept, str):
        raise UserError(f"concept is {concept!r}: give a word or a phrase, such as striped")
    if concept is None:
        query = listing(table)
    else:
        # transformers comes with it, half a second: only a search needs the text tower.
        from hsae.pipeline.exports.text.concepts import concept_search

        query = concept_search(concept, connections.settings, connections.store)
    with losses_noted(connections), transaction(connections.sessions) as session:
        rows, _ = filtered_rows(session, query, wanted, under=under)
        if not rows and not listing(table)(session, ScoreFilter(analysis_ids=wanted.analysis_ids, limit=1)):
            raise UserError(
                f"analysis {about['id']} has no names by text: submit the same study with names={{'by': MODEL}}"
                " (docs/text.md)"
            )
    first = _COLUMNS[table]
    return frame(rows, first if concept is None else (first[0], "concept", *first[1:]))
