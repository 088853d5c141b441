"""Submits that name a hook point: which layer it is, which key, and what is stored."""

import shutil

import pytest
import torch
from sqlalchemy import select
from tests.backbones.conftest import edit_json
from tests.pipeline.in_process import plan_small, run_jobs
from tests.small import register_small, small_request

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.catalog import ActivationSet, transaction
from hsae.demo import backbone_folder
from hsae.errors import UserError
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.planning.settled import settled_hook
from hsae.pipeline.planning.submit import check_model
from hsae.sae.config import SaeConfig
from hsae.sae.origin import SaeOrigin
from hsae.settings import Settings
from hsae.store.activations import read_manifest


def asked(hook, layers=(), **extraction):
    return small_request(layers=layers, extraction=ExtractionConfig(hook=hook, **extraction))


@pytest.mark.parametrize(
    ("hook", "layers", "settled", "at"),
    [
        ("residual", (1, 3), "residual", (1, 3)),
        ("attention", (1, 3), "attention", (1, 3)),
        ("mlp", "all", "mlp", "all"),
        ("encoder.layer.2", (), "residual", (2,)),
        ("encoder.layer.2", (2,), "residual", (2,)),
        ("encoder.layer.2", "all", "residual", (2,)),
        ("encoder.layer.2.mlp.fc1", (), "encoder.layer.*.mlp.fc1", (2,)),
        ("encoder.layer.*.mlp.fc1", (0, 5), "encoder.layer.*.mlp.fc1", (0, 5)),
        ("embeddings", (), "embeddings", (0,)),
        ("layernorm", (), "layernorm", (5,)),
    ],
)
def test_the_layer_of_a_hook_point(hook, layers, settled, at):
    request = settled_hook(asked(hook, layers), Settings())
    assert (request.extraction.hook, request.layers) == (settled, at)


@pytest.mark.parametrize(
    ("hook", "layers", "message"),
    [
        ("encoder.layer.2", (1,), "the hook point encoder.layer.2 is at layer 2, not 1: leave the layers out"),
        ("encoder.layer.*.mlp", (), "the hook point encoder.layer.\\*.mlp is in every block: add --layer 8"),
        ("encoder.layer.8", (), "has no module encoder.layer.8: near ones are "),
        ("embedding", (), "has no embedding after its blocks: choose residual, attention, mlp"),
    ],
)
def test_a_hook_point_that_cannot_be(hook, layers, message):
    with pytest.raises(UserError, match=message) as error:
        settled_hook(asked(hook, layers), Settings())
    assert "\n" not in str(error.value)


def test_the_width_of_the_hook_point_counts():
    wide = SaeConfig(kind="topk", k=1000, expansion=2)  # more than the latents of the stream, of 192
    request = small_request(layers=(1,), saes=(wide,), extraction=ExtractionConfig(hook="encoder.layer.*.mlp.fc1"))
    spec, layers = check_model(request, Settings())
    assert (layers, spec.shape(1, "encoder.layer.*.mlp.fc1").width) == ((1,), 768)
    with pytest.raises(UserError, match="1000"):
        check_model(small_request(layers=(1,), saes=(wide,)), Settings())


def test_tokens_that_the_hook_point_has_not():
    with pytest.raises(UserError, match="400 patches cannot be drawn of the 64"):
        check_model(asked("residual", (1,), tokens="patches", patches_per_image=400), Settings())
    with pytest.raises(UserError, match="patches are drawn of tokens patches, not of cls"):
        check_model(asked("residual", (1,), patches_per_image=4), Settings())
    with pytest.raises(UserError, match="has no register tokens"):
        check_model(asked("residual", (1,), tokens="registers"), Settings())


def test_images_cannot_be_decoded_smaller_for_a_model_that_does_not_resize(tmp_path):
    folder = shutil.copytree(backbone_folder(), tmp_path / "model")
    edit_json(folder / "preprocessor_config.json", do_resize=False)
    request = small_request(model=str(folder), layers=(1,), extraction=ExtractionConfig(decode="scaled"))
    with pytest.raises(UserError, match="does not resize images, so none can be decoded at a smaller scale"):
        check_model(request, Settings())
    check_model(small_request(layers=(1,), extraction=ExtractionConfig(decode="scaled")), Settings())
    check_model(small_request(model=str(folder), layers=(1,)), Settings())


@pytest.mark.parametrize(
    ("own", "asked_for", "expected"),
    [
        ("mlp", "mlp", None),
        ("layer.*.mlp.fc1", "encoder.layer.*.mlp.fc1", None),
        ("layer.*.mlp.fc1", "layer.*.mlp.fc1", None),
        ("dinov2.encoder.layer.*.mlp.fc1", "dinov2.encoder.layer.*.mlp.fc1", None),
        ("encoder.layer.*.mlp.fc1", "encoder.layer.2.mlp.fc1", None),
        (
            "mlp",
            "residual",
            "on the hook point mlp, and residual is asked for: give --hook mlp, or leave the SAE out;"
            " or import it again with the right --hook",
        ),
        ("attention", "mlp", "on the hook point attention, and mlp is asked for: give --hook attention"),
        ("residual", "mlp", "on the hook point residual, and mlp is asked for: give --hook residual"),
        ("encoder.layer.*.mlp.fc1", "mlp", r"on .* and mlp is asked for: give --hook 'encoder\.layer\.\*\.mlp\.fc1',"),
        ("mlp", "encoder.layer.*.mlp", r"on the hook point mlp, and encoder\.layer\.\*\.mlp is asked for"),
    ],
)
def test_an_imported_sae_is_for_its_own_hook_point(own, asked_for, expected):
    width = 768 if own.endswith("fc1") else 192
    origin = SaeOrigin(name="peer", format="saelens", key="0" * 64, d_model=width, n_latents=800, layer=2, hook=own,
                       hook_point="as its files say")  # fmt: skip
    sae = SaeConfig(kind="topk", k=4, imported=origin)
    request = small_request(layers=(2,), saes=(sae,), extraction=ExtractionConfig(hook=asked_for))
    if expected is None:
        assert check_model(settled_hook(request, Settings()), Settings())[1] == (2,)
    else:
        with pytest.raises(UserError, match=f"the imported SAE peer was trained {expected}"):
            check_model(settled_hook(request, Settings()), Settings())


def sets(service):
    with transaction(service.sessions) as session:
        return session.scalars(select(ActivationSet).order_by(ActivationSet.id)).all()


@pytest.mark.parametrize(
    ("extraction", "width", "n_rows"),
    [
        ({"hook": "mlp"}, 192, 8),
        ({"hook": "encoder.layer.*.mlp.fc1", "tokens": "patches", "patches_per_image": 4, "seed": 3}, 768, 32),
    ],
)
def test_a_study_at_a_hook_point(extraction, width, n_rows, service):
    register_small(service, n_classes=2)
    plain = plan_small(service, layers=(1,))
    config = ExtractionConfig(shard_images=40, batch_size=20, **extraction)
    plan = plan_small(service, layers=(1,), extraction=config)
    assert {job.key for job in plan.jobs}.isdisjoint({job.key for job in plain.jobs})
    assert plan.study_id != plain.study_id
    assert extraction["hook"] in next(job.title for job in plan.jobs if job.kind == "extract")
    assert run_jobs(service, plan) == ["succeeded"] * len(plan.jobs)
    stored = next(row for row in sets(service) if row.hook == extraction["hook"])
    assert (stored.layer, stored.d_model, stored.n_rows) == (1, width, n_rows)
    manifest = read_manifest(service.store, stored.key, sha256=stored.manifest_sha256)
    assert (manifest.d_model, manifest.n_rows) == (width, n_rows)


def test_relevancy_maps_are_of_the_residual_stream(service):
    from tests.small import WITH_MAPS

    register_small(service, n_classes=2)
    with pytest.raises(UserError, match="relevancy maps explain class and patch tokens of the residual stream"):
        plan_small(service, layers=(1,), extraction=ExtractionConfig(hook="mlp"), own={"map": WITH_MAPS})


def test_the_demo_s_backbone_at_a_hook_point_is_its_module():
    spec = inspect_backbone(str(backbone_folder()), hook="attention")
    backbone = Backbone.load(spec, layers=[1], device=torch.device("cpu"), hook="attention")
    assert backbone.activations(torch.zeros(1, 3, 64, 64), "cls")[1].shape == (1, 1, 192)
