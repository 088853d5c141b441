"""Models bring numbers and nothing else: their revision is a commit, their code is not run, pickles are not read."""

import json
import shutil

import pytest
import torch
from sqlalchemy import text
from tests.pipeline.in_process import run_jobs
from tests.small import register_small, small_request

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.catalog import transaction
from hsae.demo import backbone_folder
from hsae.errors import UserError
from hsae.pipeline.planning.submit import submit
from hsae.sae.config import SaeConfig

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LATER = "89abcdef0123456789abcdef0123456789abcdef"


@pytest.fixture
def pinned(make_service, tmp_path):
    """A service whose hub cache has one model, at a commit that is its main branch."""
    repository = tmp_path / "hub" / "models--somebody--tiny"
    shutil.copytree(backbone_folder(), repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    service = make_service(model_cache=tmp_path / "hub")
    register_small(service, n_classes=2)
    return service


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_the_commit_is_recorded(pinned, revision, tmp_path):
    saes = (SaeConfig(kind="topk", k=8, expansion=2, n_steps=20),)
    request = small_request(model="somebody/tiny", revision=revision, layers=(1,), saes=saes)
    plan = submit(request, pinned.settings, pinned.sessions)
    # The branch moves on before the job runs; the job does not.
    (tmp_path / "hub" / "models--somebody--tiny" / "refs" / "main").write_text(LATER)
    assert run_jobs(pinned, plan, "extract") == ["succeeded"]
    with transaction(pinned.sessions) as session:
        assert session.execute(text("SELECT name, revision FROM model")).all() == [("somebody/tiny", COMMIT)]
        asked = session.scalars(text("SELECT request -> 'model' ->> 'revision' FROM job WHERE kind = 'extract'")).all()
    assert asked == [COMMIT]


def test_code_in_a_model_folder_is_not_run(tmp_path):
    folder, touched = tmp_path / "model", tmp_path / "touched"
    shutil.copytree(backbone_folder(), folder)
    (folder / "own.py").write_text(f"import pathlib\npathlib.Path({str(touched)!r}).touch()\nclass Own: pass\n")
    for name, part in (("config.json", "AutoModel"), ("preprocessor_config.json", "AutoImageProcessor")):
        content = json.loads((folder / name).read_text())
        content["auto_map"] = {part: "own.Own", "AutoConfig": "own.Own"}
        (folder / name).write_text(json.dumps(content))
    spec = inspect_backbone(str(folder))
    backbone = Backbone.load(spec, layers=[0], device=torch.device("cpu"))
    assert backbone.activations(torch.zeros(1, 3, *spec.preprocessing["image_size"]), "cls")[0].shape[0] == 1
    assert not touched.exists()


def test_pickled_weights_are_refused(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(backbone_folder(), folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickled ones are not read"):
        inspect_backbone(str(folder))
