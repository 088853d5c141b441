"""Options that the commands of `results` share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click
from sqlalchemy.orm import Session

from hsae.catalog import transaction
from hsae.catalog.queries.score_filter import ScoreFilter
from hsae.catalog.queries.studies import Kept
from hsae.cli.framework.completion import complete_studies
from hsae.cli.framework.connections import Connections
from hsae.cli.framework.sae_options import SAE_KIND
from hsae.cli.framework.study_choice import StudyChoice, say, scope_note
from hsae.pipeline.exports.analysis_names import in_sample_title
from hsae.pipeline.exports.result_rows import filtered_rows as named_rows
from hsae.vocabulary.bases import BASES, CONTROL_BASES

Filter = TypeVar("Filter", bound=ScoreFilter)

analysis_option = click.option("--analysis", "analysis_id", type=int, help="Only this analysis.")
study_option = click.option(
    "--study", type=StudyChoice(), shell_complete=complete_studies,
    help="This study's analyses; all: those of every study.  [default: the latest with any that fit]",
)  # fmt: skip
model_option = click.option("--model", help="Only this backbone.")
dataset_option = click.option("--dataset", help="Only this data set.")
layer_option = click.option("--layer", type=int, help="Only this layer.")
sae_option = click.option("--sae", "sae_kind", type=SAE_KIND, help="Only SAEs of this kind.")
column_basis_option = click.option(
    "--basis",
    type=click.Choice(["sae", *CONTROL_BASES]),
    default="sae",
    show_default=True,
    help="The SAE, or a control with columns of its own.",
)
basis_option = click.option(
    "--basis",
    type=click.Choice(BASES),
    default="sae",
    show_default=True,
    help="The SAE, or one of its controls.",
)
min_f1_option = click.option(
    "--min-f1",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Only an F1 (as it is, not adjusted) of at least this.",
)
node_q_option = click.option(
    "--q", "max_q", type=click.FloatRange(0, 1), help="Only nodes whose exact test has a q-value of at most this."
)
label_q_option = click.option(
    "--q", "max_q", type=click.FloatRange(0, 1),
    help="Only latents whose exact test at their label has a q-value of at most this.",
)  # fmt: skip
limit_option = click.option(
    "--limit", type=click.IntRange(1, 10**6), default=30, show_default=True, help="At most so many rows."
)
CONTROL_COLUMNS = {"f1_baseline": "baseline", "f1_neuron": "neurons", "f1_shuffled_taxonomy": "~tree"}
"""What stands beside an SAE's F1, and only beside an SAE's."""


def scored_columns(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The columns; those of the controls only if some row has them."""
    missing = {key for key in CONTROL_COLUMNS if not any(row.get(key) is not None for row in rows)}
    return {key: heading for key, heading in columns.items() if key not in missing}


def filtered_rows(
    connections: Connections,
    query: Callable[[Session, Filter], list[dict[str, Any]]],
    kind: type[Filter],
    *,
    quiet: bool,
    kept: Kept = "scores",
    study: int | str | None,
    nodes: tuple[str, ...],
    under: str | None,
    analysis_id: int | None,
    **options: Any,
) -> list[dict[str, Any]]:
    """The rows of `query`, each with the name of its SAE, `sae`.

    Unless `quiet`, the study that was taken is printed.

    Args:
        connections: the service.
        query: finds the rows that fit a filter.
        kind: the filter that `query` takes.
        quiet: whether a program reads the rows.
        kept: what the latest study must have of an analysis that fits.
        study: the option `--study`.
        nodes: the options `--node`.
        under: the option `--under`.
        analysis_id: the option `--analysis`.
        options: further fields of the filter.

    Raises:
        UserError: the catalog does not have a name or number.
    """
    wanted = kind(analysis_ids=one_analysis(analysis_id), **options)
    with transaction(connections.sessions) as session:
        rows, scope = named_rows(session, query, wanted, study=study, nodes=nodes, under=under, kept=kept)
    say(scope_note(scope), quiet=quiet)
    return rows


def in_sample(connections: Connections, rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The title of a table of such rows: whether, or which of, their analyses are in-sample."""
    with transaction(connections.sessions) as session:
        return in_sample_title(session, rows)


def one_analysis(analysis_id: int | None) -> tuple[int, ...] | None:
    """The option `--analysis` as a field of a filter."""
    return None if analysis_id is None else (analysis_id,)
