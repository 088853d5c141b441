"""Every query of docs/sql.md names tables, views and columns that there are; the demo's tests run them over rows."""

from sqlalchemy import text
from tests.docs.cookbook import cookbook


def test_an_empty_database_plans_every_query(service):
    queries = cookbook()
    assert len(queries) >= 20
    with service.sessions.kw["bind"].connect() as connection:
        for query in queries:
            connection.execute(text("EXPLAIN " + query.strip().removesuffix(";").replace(":", r"\:")))
