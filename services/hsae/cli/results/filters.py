"""Options that the commands of `results` share."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from hsae.cli.framework.completion import complete_studies
from hsae.cli.framework.connections import Connections
from hsae.cli.framework.sae_options import SAE_KIND
from hsae.cli.framework.study_choice import StudyChoice, choose_scope, say
from hsae.cli.results.names import name_saes

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

analysis_option = click.option("--analysis", "analysis_id", type=int, help="Only this analysis.")
study_option = click.option(
    "--study", type=StudyChoice(), shell_complete=complete_studies,
    help="This study's analyses; all: those of every study.  [default: the latest with scores that fit]",
)  # fmt: skip
layer_option = click.option("--layer", type=int, help="Only this layer.")
sae_option = click.option("--sae", "sae_kind", type=SAE_KIND, help="Only SAEs of this kind.")
# Spelt out: the catalog, which has the same list, takes a second to load.
_COLUMN_BASES = ("sae", "neuron", "pca", "random", "untrained")
column_basis_option = click.option(
    "--basis",
    type=click.Choice(_COLUMN_BASES),
    default="sae",
    show_default=True,
    help="The SAE, or a control with columns of its own.",
)
basis_option = click.option(
    "--basis",
    type=click.Choice([*_COLUMN_BASES, "shuffled_labels", "shuffled_taxonomy"]),
    default="sae",
    show_default=True,
    help="The SAE, or one of its controls.",
)
min_f1_option = click.option(
    "--min-f1", type=float, default=0.0, show_default=True, help="Only an F1 of at least this."
)
q_option = click.option("--q", "max_q", type=float, help="Only a q-value of at most this.")
limit_option = click.option("--limit", type=click.IntRange(1, 10**6), default=30, show_default=True)
CONTROL_COLUMNS = {"f1_neuron": "neurons", "f1_shuffled_taxonomy": "~tree"}
"""What stands beside an SAE's F1, and only beside an SAE's."""


def scored_columns(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The columns, those of the controls only where some row has them."""
    missing = {key for key in CONTROL_COLUMNS if not any(row.get(key) is not None for row in rows)}
    return {key: heading for key, heading in columns.items() if key not in missing}


def require_analysed(session: "Session", wanted: Mapping[str, Any]) -> None:
    """A `UserError` where the options `--analysis` or `--layer` name what nothing is analysed of."""
    from hsae.catalog.queries.known_names import require_known

    analysis = wanted.get("analysis_id")
    require_known(session, analysis_ids=() if analysis is None else (analysis,), layer=wanted.get("layer"))


def filtered_rows(
    connections: Connections,
    query: Callable[..., list[dict[str, Any]]],
    *,
    quiet: bool,
    study: int | str | None,
    nodes: tuple[str, ...],
    under: str | None,
    **wanted: Any,
) -> list[dict[str, Any]]:
    """The rows of `query`, with `--study`, `--node` and `--under` looked up; a `UserError` names what is not there.

    Each row has the name of its SAE, `sae`. Unless `quiet`, a person is told which study was taken.
    """
    from hsae.catalog import transaction
    from hsae.catalog.queries.known_names import find_nodes

    with transaction(connections.sessions) as session:
        require_analysed(session, wanted)
        named = find_nodes(session, nodes) if nodes else None
        above = find_nodes(session, [under]) if under else None
        fits = {name: wanted.get(name) for name in ("analysis_id", "layer", "sae_kind")}
        some = None if named is None and above is None else [*(named or ()), *(above or ())]
        scope = choose_scope(session, study, nodes=some, **fits)
        rows = query(session, nodes=named, under=above, analysis_ids=scope.analysis_ids, **wanted)
        name_saes(session, rows)
    say(scope.note, quiet=quiet)
    return rows
