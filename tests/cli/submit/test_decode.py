"""submit --decode: another extraction, with and without a study file; at its default nothing changes."""

import json

import pytest
from tests.cli.refusals import assert_one_line, counts
from tests.small import register_small

from hsae.demo import backbone_folder

LAYER = ("--layer", "1", "--model", str(backbone_folder()), "--sae", "topk")
STUDY = f"{{model: {backbone_folder()}, dataset: small, layers: 1, saes: [{{kind: topk}}]"


@pytest.fixture(scope="module")
def ready(make_service):
    """A service with a data set."""
    service = make_service()
    register_small(service, n_classes=3)
    return service


def planned(admin, service, *arguments):
    """The jobs of a dry run."""
    result = admin(service, "submit", *arguments, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    return {(job["key"], job["title"]) for job in json.loads(result.stdout)["jobs"]}


def test_a_dry_run_with_images_decoded_smaller(admin, ready, tmp_path):
    before = counts(ready)
    plain = planned(admin, ready, *LAYER)
    assert planned(admin, ready, *LAYER, "--decode", "exact") == plain
    scaled = planned(admin, ready, *LAYER, "--decode", "scaled")
    assert {key for key, _ in scaled}.isdisjoint({key for key, _ in plain})
    (title,) = [title for _, title in scaled if title.startswith("extract")]
    assert title.startswith("extract cls (decode=scaled) of ")
    assert not any("decode" in title for _, title in plain)
    study = tmp_path / "study.yaml"
    study.write_text(f"{STUDY}, extraction: {{decode: scaled}}}}")
    assert {key for key, title in planned(admin, ready, "--spec", study) if title.startswith("extract")} == {
        key for key, title in scaled if title.startswith("extract")
    }
    assert counts(ready) == before


def test_what_is_refused(admin, ready, tmp_path):
    result = admin(ready, "submit", *LAYER, "--decode", "half", "--dry-run")
    assert (result.exit_code, "'half' is not one of 'exact', 'scaled'" in result.stderr) == (2, True)
    study = tmp_path / "study.yaml"
    study.write_text(f"{STUDY}, extraction: {{decode: half}}}}")
    assert_one_line(admin(ready, "submit", "--spec", study, "--dry-run"), "extraction.decode", "exact", "scaled")
