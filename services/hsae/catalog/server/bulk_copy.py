"""Bulk loading by COPY, and the partitions of node_score."""

import io
from typing import cast

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from sqlalchemy import text
from sqlalchemy.orm import Session

_CHUNK_ROWS = 100_000


def copy_rows(session: Session, table: str, rows: pa.Table, *, freeze: bool = False) -> None:
    """Append `rows` to a table by COPY, in the session's transaction; the columns are those of `rows`, null is NULL.

    Set `freeze` for a table that was made in the same transaction: VACUUM then never needs to visit its rows.
    """
    columns = ", ".join(f'"{name}"' for name in rows.column_names)
    connection = cast("psycopg.Connection", session.connection().connection.dbapi_connection)
    options = pa.csv.WriteOptions(include_header=False)
    with (
        connection.cursor() as cursor,
        cursor.copy(f'COPY "{table}" ({columns}) FROM STDIN WITH (FORMAT csv, FREEZE {freeze})') as copy,
    ):
        for start in range(0, rows.num_rows, _CHUNK_ROWS):
            buffer = io.BytesIO()
            pa.csv.write_csv(rows.slice(start, _CHUNK_ROWS), buffer, write_options=options)
            copy.write(buffer.getbuffer())


def load_node_scores(session: Session, analysis_id: int, rows: pa.Table) -> None:
    """Load an analysis' node scores into a detached partition, which is attached at the end.

    Readers of node_score see all of the rows or none, and the analysis' partition can be dropped at once later.
    """
    name = f"node_score_a{analysis_id:d}"
    # Without indexes: attaching builds them at once, which is faster than keeping them up row by row.
    session.execute(text(f"CREATE TABLE {name} (LIKE node_score INCLUDING ALL EXCLUDING INDEXES)"))
    copy_rows(session, name, _node_best_first(rows), freeze=True)
    # The check lets Postgres attach the partition without reading it again.
    check = f"{name}_analysis"
    session.execute(text(f"ALTER TABLE {name} ADD CONSTRAINT {check} CHECK (analysis_id = {analysis_id:d})"))
    session.execute(text(f"ALTER TABLE node_score ATTACH PARTITION {name} FOR VALUES IN ({analysis_id:d})"))
    session.execute(text(f"ALTER TABLE {name} DROP CONSTRAINT {check}"))
    session.execute(text(f"ANALYZE {name}"))


def _node_best_first(rows: pa.Table) -> pa.Table:
    """The best latents of nodes come first, by node, so that a query for them reads few pages."""
    basis = rows["basis"].combine_chunks().dictionary_encode().indices.to_numpy()
    seed, synset, latent = (rows[name].to_numpy() for name in ("seed", "synset_id", "latent"))
    is_best = rows["is_node_best"].to_numpy()
    f1 = pc.fill_null(rows["f1"], -1.0).to_numpy()
    return rows.take(np.lexsort((latent, -f1, synset, seed, basis, ~is_best)))
