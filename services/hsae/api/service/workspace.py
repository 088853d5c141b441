"""`hsae.open`: a running service from a notebook."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from hsae.api.arrays.extraction import layer_numbers
from hsae.api.frames import frame, html_table
from hsae.api.service.analysis import Analysis, open_analysis
from hsae.api.service.study import Study
from hsae.api.service.submission import Saes, Submission, submit_study
from hsae.catalog import Dataset, transaction
from hsae.catalog.queries.scope import require_study_or_latest
from hsae.catalog.queries.studies import list_studies, no_study
from hsae.errors import UserError
from hsae.pipeline.connections import Connections

if TYPE_CHECKING:
    import pandas as pd

_STUDY_COLUMNS = ("study", "name", "model", "dataset", "score_dataset", "layers", "n_saes", "jobs", "submitted_at")
_DATASET_COLUMNS = ("name", "n_images", "n_classes", "n_nodes", "taxonomy", "root")
_SHOWN = {
    "id": "study", "name": "name", "model": "model", "dataset": "data set", "layers": "layers", "jobs": "jobs",
    "submitted_at": "submitted",
}  # fmt: skip
_N_NAMED = 8
LATEST = "latest"


def open(*, home: str | Path | None = None) -> "Workspace":
    """Open a running service: the private stack of `hsae-admin up`, or the servers that `HSAE_*` variables name.

    Args:
        home: data folder of a private stack; None: HSAE_HOME, else the user data folder.

    Raises:
        UserError: no database is set, its schema is not this version's, or a variable is wrong; one line.
        ServiceError: the database cannot be reached.
    """
    connections = Connections(None if home is None else Path(home).expanduser().resolve())
    connections.engine  # noqa: B018 -- says now what is wrong
    return Workspace(connections)


@dataclass(frozen=True, slots=True, eq=False)
class Workspace:
    """A service: its studies, analyses and data sets.

    Attributes:
        connections: its servers, each connected when it is first needed.
    """

    connections: Connections

    def studies(self) -> "pd.DataFrame":
        """Every study, the latest last.

        Raises:
            UserError: pandas is not installed.
        """
        with transaction(self.connections.sessions) as session:
            rows = list_studies(session)
        return frame([{"study": row["id"], **row} for row in rows], _STUDY_COLUMNS).drop(columns="id", errors="ignore")

    def datasets(self) -> "pd.DataFrame":
        """Every registered data set, the default of `submit` first.

        Raises:
            UserError: pandas is not installed.
        """
        with transaction(self.connections.sessions) as session:
            found = session.scalars(select(Dataset).order_by(Dataset.id)).all()
            rows = [{name: getattr(row, name) for name in _DATASET_COLUMNS} for row in found]
        return frame(rows, _DATASET_COLUMNS)

    def study(self, which: int | str = LATEST) -> Study:
        """A study.

        Args:
            which: its number or name; "latest" is the one submitted last.

        Raises:
            UserError: there is none (the message lists what there is), or several have the name.
        """
        with transaction(self.connections.sessions) as session:
            wanted = require_study_or_latest(session, None).number if which == LATEST else which
            rows = list_studies(session)
        fitting = [row for row in rows if wanted in (row["id"], row["name"])]
        if len(fitting) == 1:
            return Study(self.connections, fitting[0]["id"], fitting[0]["name"])
        if fitting:
            numbers = ", ".join(str(row["id"]) for row in fitting)
            raise UserError(f"{len(fitting)} studies are called {which}: give a number ({numbers})")
        there = ", ".join(f"{row['id']} ({row['name']})" for row in rows[-_N_NAMED:])
        latest = f"the latest {_N_NAMED} of {len(rows)} are" if len(rows) > _N_NAMED else "there is"
        raise UserError(f"{no_study(which)}: {f'{latest} {there}' if rows else 'none was submitted yet'}")

    def analysis(self, number: int) -> Analysis:
        """An analysis.

        Args:
            number: its number, as tables have it in `analysis_id`.

        Raises:
            UserError: there is none.
        """
        return open_analysis(self.connections, number)

    def submit(
        self,
        *,
        layers: Sequence[int] | int | str,
        saes: Saes | None = None,
        dataset: str | Path | None = None,
        score_dataset: str | Path | None = None,
        model: str | Path | None = None,
        **study: Any,
    ) -> Submission:
        """Queue extraction, training and analysis of layers by the planner of `hsae-admin submit`.

        What exists already is reused; what is under way is joined.

        Args:
            layers: numbers of blocks from 0, a list such as "0-3,8", or "all".
            saes: kinds of SAE, their configs, or blocks of a study file: {"kind": "topk", "k": [16, 32]}. None: a ReLU
                SAE, or with `sae_from` (names or paths of SAEs of other programs) nothing is trained.
            dataset: registered name, or the path of a folder or CSV; None: the first one registered.
            score_dataset: another one that selects and scores.
            model: hub id or folder; None: HSAE_MODEL.
            study: further fields of a study file (docs/submit.md), such as name, split, seeds, scoring, priority, and
                drop_after ("analyze": activations are deleted once every job that reads them has succeeded).

        Raises:
            UserError: the request is not possible; nothing is entered then.
        """
        given = layers if isinstance(layers, str) else layer_numbers(layers)
        places = {"dataset": dataset, "score_dataset": score_dataset, "model": model}
        texts = {name: None if place is None else str(place) for name, place in places.items()}
        return submit_study(self.connections, saes, {"layers": given, **texts, **study})

    def _repr_html_(self) -> str:
        with transaction(self.connections.sessions) as session:
            rows = list_studies(session)
        shown = [
            {
                **row,
                "jobs": [f"{n} {state}" for state, n in (row["jobs"] or {}).items()],
                "submitted_at": f"{row['submitted_at']:%Y-%m-%d %H:%M}",
            }
            for row in rows[-_N_NAMED:]
        ]
        latest = f", the latest {_N_NAMED} of {len(rows)} studies" if len(rows) > _N_NAMED else ""
        return html_table(f"{repr(self)[1:-1]}{latest}", shown, _SHOWN)

    def __repr__(self) -> str:
        return f"<Workspace: {self.connections.engine.url.render_as_string(hide_password=True)}>"
