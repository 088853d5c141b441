"""Every number of the result tables is explained on a page: metrics.md, or that of its subject."""

import re

import pytest
from tests.docs.test_links import DOCS, prose

PAGES = ("metrics.md", "sae.md", "interventions.md", "maps.md", "text.md")
TABLES = (
    "class_probe", "class_probe_level", "comparison_difference", "comparison_score", "comparison_trend", "intervention",
    "intervention_contrast", "intervention_distance", "intervention_effect", "intervention_readout",
    "intervention_steerability", "latent", "latent_edge", "latent_effect", "latent_family", "latent_map", "latent_name",
    "latent_place", "latent_stability", "layer_replicate", "layer_score", "layer_tree_shuffle", "name_agreement",
    "node_absorption", "node_score", "sae", "sae_curve",
)  # fmt: skip
_NUMBER = re.compile(r"^\| `(\w+)` \| (?:double precision|(?:small|big)?int(?:eger)?)\b", re.MULTILINE)


def numbers(table: str) -> set[str]:
    """Columns of measured numbers: those of floats, and counts. Schema.md is tested to be what the database has."""
    section = (DOCS / "schema.md").read_text(encoding="utf-8").split(f"\n### {table}\n")[1].split("\n### ")[0]
    columns = _NUMBER.findall(section)
    floats = re.findall(r"^\| `(\w+)` \| double precision", section, re.MULTILINE)
    return {*floats, *(column for column in columns if column.startswith("n_"))}


@pytest.fixture(scope="module")
def named():
    """Every word in backticks on the pages, code blocks left out."""
    text = "\n".join(prose(DOCS / page) for page in PAGES)
    return {word for code in re.findall(r"`([^`]+)`", text) for word in re.findall(r"\w+", code)}


@pytest.mark.parametrize("table", TABLES)
def test_every_number_of_a_table_is_named_on_a_page(table, named):
    columns = numbers(table)
    assert columns
    assert sorted(columns - named) == []
