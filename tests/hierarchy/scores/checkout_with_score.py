"""A checkout with one more node score: two changed files and a migration, and links to all other files.

Run as a program in such a checkout, this migrates the database, makes a small study with the score, and writes what it
found and an export into a folder: `python -m tests.hierarchy.scores.checkout_with_score FOLDER`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner
from sqlalchemy import Engine, inspect, text
from tests.catalog.server import test_migrate
from tests.pipeline.in_process import plan_small, run_jobs
from tests.pipeline.stages import test_score_rows
from tests.small import bare_scoring, link_classes, register

import hsae
from hsae.catalog import connect
from hsae.catalog.server.migrate import downgrade, upgrade
from hsae.catalog.server.schema_version import schema_version
from hsae.cli.main import cli
from hsae.pipeline.connections import Connections
from hsae.settings import load_settings

ROOT = Path(__file__).parents[3]
NAME = "jaccard"
COMMENT = "n_both over the images under the node or on which the latent fires; null in analyses of earlier versions"
VIEW = "node_best_latent"
EARLIER = 99
"""An analysis of the version without the score."""
_VERSIONS = Path("migrations/hsae_migrations/versions")

_METHOD = '''\
    def jaccard(self, *, out: Tensor | None = None) -> Float64[Tensor, "*shape"]:
        """`n_both / (N_j + n_v - n_both)`: of the images that latent or node have, the share that both have."""
        union = torch.sub(_or_nan(self.n_fire) + _or_nan(self.n_node), self.n_both, out=out)
        return torch.div(self.n_both, union, out=union)

'''
_FIELD = '    jaccard: Float64[np.ndarray, "*shape"]\n'
_COLUMN = f'    jaccard: Mapped[float | None] = mapped_column(Double, comment="{COMMENT}")\n'
_MIGRATION = '''\
"""The Jaccard index of latent and node."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"
branch_labels = None
depends_on = None

_COMMENT = "{comment}"


def upgrade() -> None:
    """Apply."""
    op.add_column("node_score", sa.Column("jaccard", sa.Double(), nullable=True, comment=_COMMENT))
    # A view takes further columns at its end, and keeps its comments.
    query = _query().replace("\\n   FROM ", ", r.jaccard\\n   FROM ", 1)
    op.execute("CREATE OR REPLACE VIEW node_best_latent AS " + query)
    op.execute(f"COMMENT ON COLUMN node_best_latent.jaccard IS '{{_COMMENT}}'")


def downgrade() -> None:
    """Undo."""
    # A view loses a column only when it is made anew, without comments.
    inspector = sa.inspect(op.get_bind())
    own = inspector.get_table_comment("node_best_latent")["text"]
    columns = inspector.get_columns("node_best_latent")
    query = _query().replace(",\\n    r.jaccard\\n", "\\n")
    op.execute("DROP VIEW node_best_latent")
    op.execute("CREATE VIEW node_best_latent AS " + query)
    _comment("VIEW node_best_latent", own)
    for column in columns:
        if column["name"] != "jaccard":
            _comment(f"COLUMN node_best_latent.{{column['name']}}", column["comment"])
    op.drop_column("node_score", "jaccard")


def _query() -> str:
    return str(op.get_bind().scalar(sa.text("SELECT pg_get_viewdef(CAST('node_best_latent' AS regclass))")))


def _comment(relation: str, comment: str) -> None:
    op.execute(f"COMMENT ON {{relation}} IS '{{comment.replace(chr(39), 2 * chr(39))}}'")
'''


def changed_files() -> dict[str, str]:
    """By their paths the files that a further node score changes or adds, with what they are then."""
    scores, tables = "services/hsae/hierarchy/scores/pair_sums.py", "services/hsae/catalog/tables/scores.py"
    newest = max(path.name for path in (ROOT / _VERSIONS).glob("[0-9]*.py"))[:4]
    revision = f"{int(newest) + 1:04d}"
    return {
        scores: _with_lines(scores, {"    def recall(self, ": _METHOD, '    recall: Float64[np.ndarray, "': _FIELD}),
        tables: _with_lines(tables, {"    recall: Mapped[float | None]": _COLUMN}),
        str(_VERSIONS / f"{revision}_{NAME}.py"): _MIGRATION.format(revision=revision, before=newest, comment=COMMENT),
    }


def _with_lines(path: str, lines: dict[str, str]) -> str:
    """A file of the checkout with `lines` before the places that are their keys."""
    content = (ROOT / path).read_text(encoding="utf-8")
    for place, further in lines.items():
        assert content.count(place) == 1, f"{path} has {place!r} {content.count(place)} times"
        content = content.replace(place, further + place)
    return content


def lay_checkout(folder: Path) -> list[Path]:
    """Make the checkout in `folder`; returns the paths of the folders that programs import from."""
    for path, content in changed_files().items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
    for own in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        for entry in (ROOT / own.relative_to(folder)).iterdir():
            # Compiled files are of the sources beside them, and some of these differ.
            if entry.name != "__pycache__" and entry.name[0] != "." and not (own / entry.name).exists():
                (own / entry.name).symlink_to(entry)
    return [folder / "services", folder / "worker", folder / "migrations", folder]


def main(folder: Path) -> None:
    """Migrate, compute, and write what was found."""
    # What must hold of every node score.
    test_score_rows.test_every_field_of_a_pair_has_its_column_and_every_column_its_field()
    test_score_rows.test_every_score_of_the_sums_is_their_method()
    test_score_rows.test_an_export_has_every_score_of_the_sums_and_a_sentence_for_each()

    engine = connect(load_settings())
    found: dict[str, Any] = {"package": hsae.__file__, "views": [_view(engine)]}
    earlier = schema_version(engine).current
    assert earlier is not None
    upgrade(engine)
    found["views"].append(_view(engine))
    test_migrate.test_models_and_migrations_agree(Connections())
    test_migrate.test_every_table_column_and_view_has_a_comment(Connections())
    downgrade(engine, earlier)
    found["views"].append(_view(engine))
    with engine.begin() as connection:
        connection.execute(
            text(f"CREATE TABLE node_score_a{EARLIER} PARTITION OF node_score FOR VALUES IN ({EARLIER})")
        )
        connection.execute(
            text("INSERT INTO node_score (analysis_id, basis, seed, latent, synset_id, n_images, n_fire, n_both)"
                 f" VALUES ({EARLIER}, 'sae', 0, 0, 7, 5, 3, 2)")
        )  # fmt: skip
    _run("db", "upgrade")

    connections = Connections()
    images = link_classes(folder, 3)
    first, second, third = sorted(path.name for path in images.iterdir())
    tree = folder / "tree.csv"
    tree.write_text(f"child,parent\n{first},pair\n{second},pair\npair,all\n{third},all\n")
    register(connections, "small", images, tree)
    plan = plan_small(connections, layers=(3,), scoring=bare_scoring(controls=("neuron",)))
    found["states"] = run_jobs(connections, plan)
    found["listed"] = json.loads(_run("results", "nodes", "--analysis", "1", "--limit", "1000", "--json"))
    _run("results", "export", "1", "-o", str(folder / "export"))
    found["table"] = list(hsae.open().analysis(1).nodes().columns)
    z = np.random.default_rng(0).random((12, 5)).round()
    scores = hsae.score(z, [first, second, third] * 4, taxonomy=tree, scoring=bare_scoring())
    found["in_memory"] = scores.node_rows()
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


def _view(engine: Engine) -> dict[str, str | None]:
    """The comments of the view's columns in their order, and its own."""
    inspector = inspect(engine)
    columns = {column["name"]: column["comment"] for column in inspector.get_columns(VIEW)}
    return columns | {"": inspector.get_table_comment(VIEW)["text"]}


def _run(*arguments: str) -> str:
    """What a command prints."""
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]))
