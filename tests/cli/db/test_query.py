"""hsae-admin db query: rows as a table, as JSON and as CSV."""

import csv
import io
import json

import pytest
from sqlalchemy import text
from tests.cli.refusals import assert_one_line
from tests.docs.cookbook import cookbook_query
from tests.planted_scores import plant

from hsae.catalog import transaction


@pytest.fixture(scope="module")
def empty(make_service):
    return make_service()


def test_csv(admin, empty):
    query = """SELECT * FROM (VALUES
        (1, 'a "quoted", text'::text, 0.5::float8, true, '2026-01-02 03:04:05+00'::timestamptz, '{"a": [1]}'::jsonb),
        (2, NULL, NULL, false, NULL, NULL)) v (number, words, score, is_so, at, content)"""
    result = admin(empty, "db", "query", query, "--csv")
    assert result.exit_code == 0, result.output
    rows = list(csv.reader(io.StringIO(result.stdout)))
    assert rows[0] == ["number", "words", "score", "is_so", "at", "content"]
    assert rows[1][:4] == ["1", 'a "quoted", text', "0.5", "True"]
    assert rows[1][4].startswith("2026-01-0")
    assert rows[1][5] == '{"a": [1]}'
    assert rows[2] == ["2", "", "", "False", "", ""]


def test_csv_of_nothing_has_the_names(admin, empty):
    assert admin(empty, "db", "query", "SELECT id, name FROM study", "--csv").stdout == "id,name\n"


def test_one_form_at_a_time(admin, empty):
    assert "choose one of --json and --csv" in admin(empty, "db", "query", "SELECT 1", "--csv", "--json").stderr
    assert_one_line(admin(empty, "db", "query", "SELECT 1 AS a, 2 AS a", "--csv"), "two columns")


def test_strongest_images_are_those_there_are(admin, make_service):
    """The planted latents fire on five images: what they have is shown, although a latent may have sixteen."""
    service = make_service()
    plant(service)
    query = cookbook_query("What are a latent's strongest images?")
    images = [{"image": i, "path": f"dog/{i}.png", "activation": 5.0 - i} for i in range(5)]
    with transaction(service.sessions) as session:
        session.execute(text("UPDATE latent SET top_images = :images"), {"images": json.dumps(images)})
    rows = json.loads(admin(service, "db", "query", query, "--json").stdout)
    assert [(row["path"], row["activation"]) for row in rows] == [(i["path"], i["activation"]) for i in images]
