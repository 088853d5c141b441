"""Class information belongs to a layer, not to an analysis; and a new kind of job needs no change of the schema.

What analyses of earlier versions found moves to the activation sets: of several analyses of a layer the first one
computed it, and the others copied it. The view `level_score` has the columns that the table of that name had.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_KINDS_BEFORE = ("extract", "train", "analyze", "compare")
_COMMENTS = (
    (
        "job",
        "kind",
        "extract, train, analyze or compare",
        "kind of job, which names a stage of the pipeline, such as extract",
    ),
    (
        "job",
        "progress_unit",
        "images (extract), vectors (train), pairs of latent and node (analyze) or analyses (compare)",
        "what is counted: a unit of the kind of job, such as images (extract)",
    ),
)
_TABLES = ("class_probe", "class_probe_level")

# The first analysis of a layer by each seed and version, which computed what the others copied.
_MOVE_PROBES = """
        INSERT INTO class_probe (key, activation_set_id, dataset_id, job_id, config, classifier, n_images,
                                 n_neighbours, probe_accuracy, knn_accuracy, path_correlation,
                                 path_correlation_shuffled, created_at)
        SELECT DISTINCT ON (e.activation_set_id, d.taxonomy_key, a.config -> 'seed', a.config -> 'format')
               {key}, e.activation_set_id, a.dataset_id, a.job_id,
               jsonb_build_object('seed', a.config -> 'seed', 'format', 0), 'logistic', a.n_images,
               CASE WHEN c.knn_accuracy IS NOT NULL THEN 20 END,
               c.probe_accuracy, c.knn_accuracy, c.path_correlation, c.path_correlation_shuffled, a.created_at
        FROM analysis a
        JOIN sae e ON e.id = a.sae_id
        JOIN dataset d ON d.id = a.dataset_id
        JOIN layer_score c ON c.analysis_id = a.id AND c.basis = 'sae' AND c.seed = 0
        WHERE num_nonnulls(c.probe_accuracy, c.knn_accuracy, c.path_correlation) > 0
              OR EXISTS (SELECT FROM level_score l WHERE l.analysis_id = a.id)
        ORDER BY e.activation_set_id, d.taxonomy_key, a.config -> 'seed', a.config -> 'format', a.id
"""
_MOVE_LEVELS = """
        INSERT INTO class_probe_level (class_probe_id, level, n_groups, n_train, n_test, probe_accuracy,
                                       probe_chance, probe_l2, knn_accuracy)
        SELECT p.id, l.level, l.n_groups, l.n_train, l.n_test, l.probe_accuracy, l.probe_chance, l.probe_l2,
               l.knn_accuracy
        FROM level_score l
        JOIN analysis a ON a.id = l.analysis_id
        JOIN class_probe p ON p.key = {key}
"""
_MOVED_KEY = "encode(sha256(convert_to('class probe of analysis ' || a.key, 'UTF8')), 'hex')"

# The probe of an analysis: of its layer and taxonomy (a data set may be registered under several names), if there are
# several the one with the analysis' own split of the images, then the latest.
_ANALYSIS_PROBE = """
        SELECT a.id AS analysis_id, p.id AS class_probe_id, p.activation_set_id, p.config, p.classifier, p.n_images,
               p.n_neighbours, p.probe_accuracy, p.probe_chance, p.knn_accuracy, p.nn_accuracy, p.logistic_accuracy,
               p.path_correlation, p.path_correlation_shuffled, p.path_correlation_shuffled_sd, p.undefined
        FROM analysis a
        JOIN sae e ON e.id = a.sae_id
        JOIN dataset d ON d.id = a.dataset_id
        CROSS JOIN LATERAL (
            SELECT c.*
            FROM class_probe c JOIN dataset o ON o.id = c.dataset_id
            WHERE c.activation_set_id = e.activation_set_id AND o.taxonomy_key = d.taxonomy_key
            ORDER BY CASE WHEN a.split IS NULL THEN c.config -> 'split' IS NULL
                          ELSE coalesce(a.split @> (c.config -> 'split'), false) END DESC,
                     c.id DESC
            LIMIT 1
        ) p
"""
_LEVEL_SCORE = """
        SELECT p.analysis_id, l.level, l.n_groups, l.n_train, l.n_test, l.probe_accuracy, l.probe_chance, l.probe_l2,
               l.knn_accuracy, l.nn_accuracy, l.class_probe_id
        FROM analysis_probe p
        JOIN class_probe_level l ON l.class_probe_id = p.class_probe_id
"""
_VIEWS = {
    "analysis_probe": (
        "Each analysis with the class information in its layer: the class_probe of its activations.",
        _ANALYSIS_PROBE,
    ),
    "level_score": (
        "Each analysis with the class information in its layer, the classes joined at every depth of the taxonomy.",
        _LEVEL_SCORE,
    ),
}
_LAYER_PROGRESS = """
        SELECT i.model, i.dataset, i.layer, i.tokens, i.sae_kind,
               i.expansion, c.analysis_id, c.basis, count(*) AS n_seeds,
               avg(c.fvu) AS fvu, avg(c.cosine) AS cosine, avg(c.l0) AS l0, avg(c.dead_share) AS dead_share,
               avg(c.lch_height_mean) AS lch_height, avg(c.lch_height_relative_mean) AS lch_height_relative,
               avg(c.coverage_mean) AS coverage,
               avg(c.share_nodes_f1) AS share_nodes_f1, avg(c.share_nodes_q) AS share_nodes_q,
               avg(c.best_f1_mean) AS best_f1, avg(c.best_f1_inner_mean) AS best_f1_inner,
               {probes}
        FROM layer_score c
        JOIN analysis_input i ON i.analysis_id = c.analysis_id{joined}
        GROUP BY i.model, i.dataset, i.layer, i.tokens, i.sae_kind, i.expansion, c.analysis_id, c.basis
"""
_OF_LAYER = ("probe_accuracy", "knn_accuracy", "path_correlation", "path_correlation_shuffled")
_JOINED = "\n        LEFT JOIN analysis_probe p ON p.analysis_id = c.analysis_id"

_LEVEL_COLUMNS = {
    "level": "depth at which the taxonomy is cut; at the greatest, classes",
    "n_groups": "groups of classes with images",
    "n_train": "images trained on, and the neighbours to choose from",
    "n_test": "scored images, none trained on; the same at every level",
    "probe_accuracy": "share of the scored images whose group the linear probe names",
    "probe_chance": "the same of always naming the group with most training images",
    "probe_l2": "penalty of the probe: of this level, in mean eigenvalues of the centred X^T X; in format 0 of all levels",
    "knn_accuracy": "share of the scored images whose group the nearest neighbours name by their vote",
    "nn_accuracy": "share of the scored images whose nearest training image is of their group; null in format 0",
}
_PROBE_COLUMNS = {
    "key": "content address: the activation set's key, the labels, the taxonomy and the configuration",
    "activation_set_id": "the activations that were probed",
    "dataset_id": "the labelled images",
    "job_id": "the job that made it; before there were probe jobs the first analysis of the layer",
    "config": "seed, n_neighbours, n_path_shuffles, logistic, split where one was given, format; format 0: computed by "
    "an analysis of an earlier version",
    "classifier": "what probe_accuracy is of: ridge (ridge regression on one-hot targets), or logistic (softmax "
    "regression, in format 0)",
    "n_images": "images that were trained on or scored",
    "n_neighbours": "neighbours that voted: at most the training images of the smallest class",
    "probe_accuracy": "share of the scored images whose class the linear probe names: that of the last level",
    "probe_chance": "the same of always naming the class with most training images; null in format 0",
    "knn_accuracy": "share of the scored images whose class the n_neighbours nearest training images name",
    "nn_accuracy": "share of the scored images whose nearest training image is of their class; null in format 0",
    "logistic_accuracy": "accuracy of a logistic probe for the class on the same images; null where it was not asked "
    "for",
    "logistic_l2": "penalty of the logistic probe, chosen on a quarter of the training images",
    "path_correlation": "Spearman correlation, over pairs of classes, of their path distance in the taxonomy and the "
    "cosine distance of their centred mean activations over the scored images (format 0: over all)",
    "path_correlation_shuffled": "the same with the classes shuffled over the tree, mean over n_path_shuffles: the "
    "control",
    "path_correlation_shuffled_sd": "standard deviation over these shuffles; null in format 0",
    "undefined": "why all scores are null and there are no levels, in one line; null where they are defined",
}
_COLUMNS_OF_VIEWS = {"analysis_id": "the analysis", "class_probe_id": "the probe"}
# Of layer_progress, before and now.
_PROGRESS_COMMENTS = {
    "knn_accuracy": (
        "held-out accuracy of the 20 nearest neighbours for the class, on the same activations; null in analyses of "
        "earlier versions",
        "held-out accuracy of the nearest neighbours for the class, on the same activations",
    ),
    "path_correlation": (
        "Spearman correlation, over pairs of classes, of their path distance in the taxonomy and the cosine distance "
        "of their centred mean activations; null in analyses of earlier versions",
        "Spearman correlation, over pairs of classes, of their path distance in the taxonomy and the cosine distance "
        "of their centred mean activations over the scored images",
    ),
}
_LEVEL_COLUMNS_BEFORE = _LEVEL_COLUMNS | {
    "n_test": "held-out images; the same at every level",
    "probe_accuracy": "share of the held-out images whose group a linear probe names",
    "probe_l2": "penalty of the probe, chosen on a part of n_train",
    "knn_accuracy": "share of the held-out images whose group the 20 nearest neighbours name",
}
_OF_LAYER_BEFORE = {
    "probe_accuracy": "held-out accuracy of a linear probe for the class on this layer's raw activations",
    "knn_accuracy": "held-out accuracy of the 20 nearest neighbours for the class, on the same activations and images; "
    "null in analyses of earlier versions",
    "path_correlation": "Spearman correlation, over pairs of classes, of their path distance in the taxonomy and the "
    "cosine distance of their centred mean activations; null in analyses of earlier versions",
    "path_correlation_shuffled": "the same with the classes shuffled over the tree, mean over seeds: the control",
}


def upgrade() -> None:
    """Apply."""
    op.drop_constraint(op.f("ck_job_kind"), "job")  # the pipeline knows its kinds, and a worker leaves the others alone
    for table, column, before, now in _COMMENTS:
        op.alter_column(table, column, existing_type=sa.Text(), comment=now, existing_comment=before)
    _make_tables()
    op.execute(_MOVE_PROBES.format(key=_MOVED_KEY))
    op.execute(_MOVE_LEVELS.format(key=_MOVED_KEY))
    op.drop_table("level_score")
    for view, (comment, query) in _VIEWS.items():
        op.execute(f"CREATE VIEW {view} AS {query}")
        op.execute(f"COMMENT ON VIEW {view} IS '{comment}'")
        meanings = _COLUMNS_OF_VIEWS | (_LEVEL_COLUMNS if view == "level_score" else _PROBE_COLUMNS)
        for column in sa.inspect(op.get_bind()).get_columns(view):
            _comment(view, column["name"], meanings[column["name"]])
    probes = ", ".join(f"max(p.{name}) AS {name}" for name in _OF_LAYER)
    op.execute(f"CREATE OR REPLACE VIEW layer_progress AS {_LAYER_PROGRESS.format(probes=probes, joined=_JOINED)}")
    for column, (_, now) in _PROGRESS_COMMENTS.items():
        _comment("layer_progress", column, now)
    for column in _OF_LAYER:
        op.drop_column("layer_score", column)


def downgrade() -> None:
    """Undo: every analysis gets the rows of its layer's probe."""
    for column, comment in _OF_LAYER_BEFORE.items():
        op.add_column("layer_score", sa.Column(column, sa.Double(), nullable=True, comment=comment))
    assignments = ", ".join(f"{name} = p.{name}" for name in _OF_LAYER)
    op.execute(f"UPDATE layer_score c SET {assignments} FROM analysis_probe p WHERE p.analysis_id = c.analysis_id")  # noqa: S608 -- names of columns, ours
    probes = ", ".join(f"avg(c.{name}) AS {name}" for name in _OF_LAYER)
    op.execute(f"CREATE OR REPLACE VIEW layer_progress AS {_LAYER_PROGRESS.format(probes=probes, joined='')}")
    for column, (before, _) in _PROGRESS_COMMENTS.items():
        _comment("layer_progress", column, before)
    op.execute("DROP VIEW level_score")
    op.create_table(
        "level_score",
        sa.Column("analysis_id", sa.BigInteger(), nullable=False, comment="the analysis"),
        *_level_columns(_LEVEL_COLUMNS_BEFORE, without="nn_accuracy"),
        sa.ForeignKeyConstraint(
            ["analysis_id"], ["analysis.id"], name=op.f("fk_level_score_analysis_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("analysis_id", "level", name=op.f("pk_level_score")),
        comment="Linear probe and nearest neighbours on a layer's raw activations, with the classes joined at every "
        "depth of the taxonomy; analyses of earlier versions have none.",
    )
    names = ", ".join(name for name in _LEVEL_COLUMNS if name != "nn_accuracy")
    op.execute(f"""
        INSERT INTO level_score (analysis_id, {names})
        SELECT p.analysis_id, {", ".join(f"l.{name}" for name in names.split(", "))}
        FROM analysis_probe p JOIN class_probe_level l ON l.class_probe_id = p.class_probe_id
    """)  # noqa: S608 -- names of columns, ours
    op.execute("DROP VIEW analysis_probe")
    for table in reversed(_TABLES):
        op.drop_table(table)
    for table, column, before, now in _COMMENTS:
        op.alter_column(table, column, existing_type=sa.Text(), comment=before, existing_comment=now)
    kinds = ", ".join(f"'{kind}'" for kind in _KINDS_BEFORE)
    op.execute(f"DELETE FROM job WHERE kind NOT IN ({kinds})")  # noqa: S608 -- names of kinds, ours
    op.create_check_constraint(op.f("ck_job_kind"), "job", f"kind IN ({kinds})")


def _make_tables() -> None:
    texts = {"key", "classifier"}
    types: dict[str, sa.types.TypeEngine[object]] = {
        "config": sa.dialects.postgresql.JSONB(), "n_neighbours": sa.Integer(), "undefined": sa.Text(),
        **dict.fromkeys(texts, sa.Text()),
        **dict.fromkeys(("activation_set_id", "dataset_id", "job_id", "n_images"), sa.BigInteger()),
    }  # fmt: skip
    needed = {*texts, "config", "activation_set_id", "dataset_id", "job_id", "n_images"}
    op.create_table(
        "class_probe",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False, comment="primary key"),
        *(
            sa.Column(name, types.get(name, sa.Double()), nullable=name not in needed, comment=comment)
            for name, comment in _PROBE_COLUMNS.items()
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
            comment="when the row was made",
        ),
        sa.ForeignKeyConstraint(
            ["activation_set_id"],
            ["activation_set.id"],
            name=op.f("fk_class_probe_activation_set_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name=op.f("fk_class_probe_dataset_id")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_class_probe_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_class_probe")),
        sa.UniqueConstraint("key", name=op.f("uq_class_probe_key")),
        comment="Probes of a layer's raw activations for the classes of the images, one per activation set and "
        "configuration; all analyses of the layer share it.",
    )
    op.create_index("ix_class_probe_activation_set_id", "class_probe", ["activation_set_id"])
    op.create_table(
        "class_probe_level",
        sa.Column("class_probe_id", sa.BigInteger(), nullable=False, comment="the probe"),
        *_level_columns(_LEVEL_COLUMNS),
        sa.ForeignKeyConstraint(
            ["class_probe_id"], ["class_probe.id"], name=op.f("fk_class_probe_level_class_probe_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("class_probe_id", "level", name=op.f("pk_class_probe_level")),
        comment="Scores of each class_probe with the classes joined at every depth of the taxonomy.",
    )


def _level_columns(comments: dict[str, str], *, without: str = "") -> list[sa.Column[object]]:
    whole = {"n_groups", "n_train", "n_test"}
    return [
        sa.Column(
            name,
            sa.SmallInteger() if name == "level" else sa.Integer() if name in whole else sa.Double(),
            nullable=name not in {"level", *whole},
            comment=comment,
        )
        for name, comment in comments.items()
        if name != without
    ]


def _comment(view: str, column: str, comment: str) -> None:
    literal = "'" + comment.replace("'", "''") + "'"
    op.execute(f"COMMENT ON COLUMN {view}.{column} IS {literal}")
