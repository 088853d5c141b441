"""Bulk loading by COPY, and the partitions of node_score."""

import io
from typing import cast

import psycopg
import pyarrow as pa
import pyarrow.csv
from sqlalchemy import text
from sqlalchemy.orm import Session

_CHUNK_ROWS = 100_000


def copy_rows(session: Session, table: str, rows: pa.Table) -> None:
    """Append `rows` to a table by COPY, in the session's transaction; the columns are those of `rows`, null is NULL."""
    columns = ", ".join(f'"{name}"' for name in rows.column_names)
    connection = cast("psycopg.Connection", session.connection().connection.dbapi_connection)
    options = pa.csv.WriteOptions(include_header=False)
    with (
        connection.cursor() as cursor,
        cursor.copy(f'COPY "{table}" ({columns}) FROM STDIN WITH (FORMAT csv)') as copy,
    ):
        for start in range(0, rows.num_rows, _CHUNK_ROWS):
            buffer = io.BytesIO()
            pa.csv.write_csv(rows.slice(start, _CHUNK_ROWS), buffer, write_options=options)
            copy.write(buffer.getbuffer())


def load_node_scores(session: Session, analysis_id: int, rows: pa.Table) -> None:
    """Load an analysis' node scores into a partition built aside and attached at the end.

    Readers of node_score see all of it or nothing, and dropping the analysis' partition later is instant.
    """
    name = f"node_score_a{analysis_id:d}"
    session.execute(text(f"CREATE TABLE {name} (LIKE node_score INCLUDING ALL)"))
    copy_rows(session, name, rows)
    # The check lets Postgres attach the partition without reading it again.
    check = f"{name}_analysis"
    session.execute(text(f"ALTER TABLE {name} ADD CONSTRAINT {check} CHECK (analysis_id = {analysis_id:d})"))
    session.execute(text(f"ALTER TABLE node_score ATTACH PARTITION {name} FOR VALUES IN ({analysis_id:d})"))
    session.execute(text(f"ALTER TABLE {name} DROP CONSTRAINT {check}"))
    session.execute(text(f"ANALYZE {name}"))
