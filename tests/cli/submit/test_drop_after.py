"""submit --drop-after and --keep: what the plan says, which of file and option counts, and what is refused."""

import json

import pytest
from sqlalchemy import text
from tests.cli.refusals import assert_one_line, counts
from tests.small import register_small
from tests.waiting import rows_of

from hsae.catalog import transaction
from hsae.demo import backbone_folder

LAYER = ("--layer", "1", "--model", str(backbone_folder()), "--sae", "topk")
LINE = "Activations are deleted once every job that reads them has succeeded, unless another study keeps them."
STUDY = f"{{model: {backbone_folder()}, dataset: small, layers: 1, saes: [{{kind: topk}}], drop_after: analyze}}"


@pytest.fixture(scope="module")
def ready(make_service):
    """A service with a data set."""
    service = make_service()
    register_small(service, n_classes=3)
    return service


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return path


def planned(admin, service, *arguments):
    """What a dry run says of the activations, to people and to programs."""
    shown = admin(service, "submit", *arguments, "--dry-run")
    assert shown.exit_code == 0, shown.output
    told = json.loads(admin(service, "submit", *arguments, "--dry-run", "--json").stdout)["drop_after"]
    assert (LINE in shown.stdout) == (told is not None)
    return told


def test_a_dry_run_says_what_becomes_of_the_activations(admin, ready, study):
    before = counts(ready)
    assert planned(admin, ready, *LAYER) is None
    assert planned(admin, ready, *LAYER, "--keep") is None
    assert planned(admin, ready, *LAYER, "--drop-after", "analyze") == "analyze"
    assert planned(admin, ready, "--spec", study) == "analyze"
    assert planned(admin, ready, "--spec", study, "--keep") is None
    study.write_text(STUDY.replace(", drop_after: analyze", ""))
    assert planned(admin, ready, "--spec", study) is None
    assert planned(admin, ready, "--spec", study, "--drop-after", "analyze") == "analyze"
    assert counts(ready) == before


@pytest.mark.parametrize("given", [("--layer", "1"), ("--spec",)])
def test_both_options_contradict_each_other(admin, ready, study, given):
    arguments = (*given, study) if given == ("--spec",) else LAYER
    both = ("--keep", "--drop-after", "analyze", "--dry-run")
    assert_one_line(admin(ready, "submit", *arguments, *both), "--keep contradicts --drop-after analyze")


@pytest.mark.parametrize("value", ["train", "[]", "true"])
def test_a_stage_that_cannot_be(admin, ready, study, value):
    study.write_text(STUDY.replace("analyze", value))
    assert_one_line(admin(ready, "submit", "--spec", study, "--dry-run"), str(study), "drop_after", "'analyze'")


def test_it_is_entered_with_the_study_and_shown(admin, service, study):
    register_small(service, n_classes=3)
    result = admin(service, "submit", *LAYER, "--drop-after", "analyze")
    assert result.exit_code == 0, result.output
    assert LINE in result.stdout
    assert "drop_after: analyze" in admin(service, "studies", "show", "--spec").stdout
    assert rows_of(service, "SELECT request ->> 'drop_after' AS it FROM study") == [{"it": "analyze"}]
    # The latest submit of the same study decides.
    assert json.loads(admin(service, "submit", *LAYER, "--json").stdout)["is_new"] is False
    assert rows_of(service, "SELECT request ->> 'drop_after' AS it FROM study") == [{"it": None}]
    with transaction(service.sessions) as session:
        session.execute(text("UPDATE activation_set SET dropped_at = now() WHERE layer = 1"))
        (number,) = session.execute(text("SELECT id FROM activation_set WHERE layer = 1")).scalars()
    assert f"{number} (dropped)" in admin(service, "studies", "show").stdout
