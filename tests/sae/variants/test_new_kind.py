"""A kind of SAE that only this file knows goes all the way: settings, study file, training, storage, SQL, commands."""

import json
import os
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import safetensors.torch
import torch
from annotated_types import Ge
from sqlalchemy import text
from tests.pipeline.in_process import run_study
from tests.small import bare_scoring, register_small, small_request

from hsae.catalog import transaction
from hsae.demo import backbone_folder
from hsae.errors import UserError
from hsae.pipeline.kinds.setting_labels import sae_label
from hsae.pipeline.kinds.train import TrainRequest
from hsae.pipeline.planning.study_file import read_spec
from hsae.pipeline.planning.submit import submit
from hsae.sae.config import SaeConfig
from hsae.sae.kernels.entries import positive_entries
from hsae.sae.losses import StepLosses
from hsae.sae.model import SparseAutoencoder
from hsae.sae.training.checkpoint import Checkpoint
from hsae.sae.training.trainer import CheckpointSaving, train
from hsae.sae.variants import VARIANTS, own_settings
from hsae.sae.variants.variant import FigureStyle, SaeVariant, Setting

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Shrink(SaeVariant):
    """`z = relu(gain) * min(relu(pre - margin), ceiling)` with a trained gain for every latent; losses of its own."""

    kind = "shrink"
    title = "Shrink SAE"
    style = FigureStyle(colour="C5", marker="^", control_width=1.4)
    export_code = """\
shrunk = (pre - config["margin"]).relu()
ceiling = float("inf") if config["ceiling"] is None else config["ceiling"]
return sae["gain"].relu() * shrunk.clamp(max=ceiling)"""

    margin: Annotated[float, Ge(0), Setting("what is taken off every pre-activation", option="--margin")] = 0.05
    ceiling: Annotated[float | None, Ge(0), Setting("what is left is cut at this; none: not at all")] = None

    def own_parameters(self, n_latents, d_model):
        return {"gain": (n_latents,)}

    def initialise(self, sae):
        sae.gain.fill_(1.0)

    def initial_l0(self, n_latents):
        return n_latents // 4

    def firing(self, pre):
        return positive_entries(pre - self.margin)

    def encode(self, sae, x_scaled):
        shrunk = (sae.pre_activations(x_scaled) - self.margin).relu()
        return sae.gain.relu() * (shrunk if self.ceiling is None else shrunk.clamp(max=self.ceiling))

    def losses(self, sae, x_scaled, at):
        z = self.encode(sae, x_scaled)
        reconstruction = (x_scaled - self.decode(sae, z)).square().mean()
        sparsity = z.mean()
        total = reconstruction + 0.01 * (at.step + 1) / at.n_steps * sparsity
        fired = (z > 0).any(dim=0)
        return StepLosses(total, reconstruction.detach(), sparsity.detach(), torch.zeros_like(total.detach()), fired)


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    monkeypatch.setitem(VARIANTS, Shrink.kind, Shrink)


def test_its_settings_are_checked_and_written_like_those_of_the_others():
    config = SaeConfig(kind="shrink", margin=0.1, n_steps=9)
    assert list(config.model_dump())[:4] == ["kind", "expansion", "margin", "ceiling"]
    assert SaeConfig.parse(config.model_dump()) == config
    assert SaeConfig.model_validate_json(config.model_dump_json()) == config
    assert sae_label(config) == "shrink SAE x8 (margin=0.1, n_steps=9)"
    saes = (config, SaeConfig(kind="shrink", n_steps=9), SaeConfig())
    assert len({TrainRequest(activation_key="a", sae=sae).key for sae in saes}) == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "shrink", "margin": -1}, "margin -1 is out of range: choose at least 0"),
        (
            {"kind": "shrink", "k": 3},
            "k does not apply to a shrink SAE: leave it out or choose kind archetypal or batch_topk or frozen or "
            "matching_pursuit or matryoshka or soft_frozen or topk",
        ),
        ({"margin": 0.2}, "margin does not apply to a relu SAE: leave it out or choose kind shrink"),
        (
            {"kind": "dense"},
            f"kind 'dense' is not valid: input should be {', '.join(map(repr, VARIANTS))} or 'shrink'",
        ),
    ],
)
def test_its_mistakes_are_told_like_those_of_the_others(values, message):
    with pytest.raises(UserError) as error:
        SaeConfig(**values)
    assert str(error.value) == message


def test_a_study_file_sweeps_over_its_settings(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("layers: 1\nsaes: [{kind: [shrink, topk], margin: [0.1, 0.2], k: 4}]\n")
    shrunk = tuple(SaeConfig(kind="shrink", margin=margin) for margin in (0.1, 0.2))
    assert read_spec(path).saes == (*shrunk, SaeConfig(kind="topk", k=4))


def test_a_training_resumed_from_a_file_ends_with_the_same_weights(planted, as_rows):
    config = SaeConfig(kind="shrink", expansion=4, n_steps=20, batch_size=32, learning_rate=1e-2)
    rows = as_rows(planted(150, 8, 12, 2)[0])
    saved: list[Checkpoint] = []
    whole = train(config, rows, device=CPU, saving=CheckpointSaving(lambda: not saved, saved.append))
    read = safetensors.torch.load(safetensors.torch.save(dict(saved[0].tensors)))
    resumed = train(config, rows, device=CPU, checkpoint=Checkpoint(read, saved[0].metadata))
    tensors = whole.sae.to_tensors()
    assert not torch.equal(tensors["gain"], torch.ones(32))
    for name, tensor in resumed.sae.to_tensors().items():
        assert torch.equal(tensor, tensors[name]), name
    assert resumed.metrics == whole.metrics
    again = SparseAutoencoder.from_tensors(safetensors.torch.load(safetensors.torch.save(tensors)), config)
    x = torch.randn(5, 8)
    assert torch.equal(again.encode(x), whole.sae.encode(x))
    with pytest.raises(UserError, match="these tensors are no SAE"):
        SparseAutoencoder.from_tensors(tensors, SaeConfig(expansion=4))


_COMMANDS = """
import json, sys
from click.testing import CliRunner
from hsae.sae.variants import VARIANTS
from tests.sae.variants.test_new_kind import Shrink
VARIANTS[Shrink.kind] = Shrink
from hsae.cli.main import cli
for arguments in json.loads(sys.argv[1]):
    result = CliRunner().invoke(cli, arguments)
    print(json.dumps([result.exit_code, result.stdout, result.output]))
"""


@pytest.mark.slow
def test_from_submit_to_sql_and_to_the_commands(service, tmp_path, monkeypatch):
    register_small(service, n_classes=3)
    config = SaeConfig(kind="shrink", margin=0.1, expansion=2, n_steps=30)
    saes = (config, SaeConfig(kind="topk", k=4, expansion=2, n_steps=30))
    plan = submit(
        small_request(layers=(5,), saes=saes, scoring=bare_scoring(controls=("untrained",))),
        service.settings,
        service.sessions,
    )
    rows = run_study(service, plan.study_id)
    assert {row["state"] for row in rows} == {"succeeded"}, rows
    with transaction(service.sessions) as session:
        stored = session.execute(text("SELECT id, config FROM sae WHERE kind = 'shrink'")).all()
        ((number,),) = session.execute(
            text("SELECT a.id FROM analysis a JOIN sae e ON e.id = a.sae_id WHERE e.kind = 'shrink'")
        )
    assert [SaeConfig.parse(row.config) for row in stored] == [config]

    picture, export = tmp_path / "layers.png", tmp_path / "export"
    model = ["--model", str(backbone_folder()), "--dataset", "small", "--layer", "5", "--shard-images", "40"]
    commands = [
        ["submit", "--help"],
        ["submit", *model, "--sae", "shrink", "--sae", "relu", "--margin", "0.3", "--dry-run", "--json"],
        ["submit", *model, "--sae", "relu", "--margin", "0.3", "--dry-run"],
        ["results", "layers", "--sae", "shrink", "--plot", str(picture), "--json"],
        ["results", "layers", "--plot", str(picture), "--json"],
        ["studies", "show", str(plan.study_id)],
        ["results", "export", str(number), "-o", str(export)],
    ]
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, **service.environment, "PYTHONPATH": path}
    run = subprocess.run(
        [sys.executable, "-c", _COMMANDS, json.dumps(commands)],
        env=environment, capture_output=True, text=True, check=True, timeout=550,
    )  # fmt: skip
    usage, planned, refused, chosen, layers, study, exported = map(json.loads, run.stdout.splitlines())
    assert "--margin FLOAT" in usage[1]
    assert "topk|shrink]" in usage[1]
    assert planned[0] == 0, planned
    titles = {job["title"] for job in json.loads(planned[1])["jobs"] if job["kind"] == "train"}
    assert any("shrink SAE x8 (margin=0.3)" in title for title in titles), titles
    assert any("relu SAE x8" in title for title in titles), titles
    assert refused[0] == 1
    assert "margin does not apply to a relu SAE" in refused[2]
    assert [row["analysis_id"] for row in json.loads(chosen[1])] == [number]
    assert len(json.loads(layers[1])) == 2
    assert picture.stat().st_size > 10_000
    assert "shrink x2" in study[1]
    assert exported[0] == 0, exported[2]
    page = (export / "README.md").read_text()
    snippet = tmp_path / "load.py"
    snippet.write_text(page.split("```python\n")[1].split("```")[0])
    monkeypatch.chdir(export)
    loaded = runpy.run_path(str(snippet))
    tensors = safetensors.torch.load((export / "sae.safetensors").read_bytes())
    sae = SparseAutoencoder.from_tensors(tensors, config)
    assert f"| `gain` | [{sae.n_latents}] | |" in page
    x = torch.randn(7, sae.d_model)
    with torch.inference_mode():
        torch.testing.assert_close(loaded["encode"](x), sae.encode(x))


def test_the_settings_of_every_kind_fit_together():
    """Of one name there is one type and one option, and every option has a name of its own."""
    for name, first in own_settings().items():
        found = [variant.settings()[name] for variant in VARIANTS.values() if name in variant.settings()]
        assert {(setting.type, setting.about.option) for setting in found} == {(first.type, first.about.option)}
        assert all(setting.about.description for setting in found)
    options = [setting.about.option for setting in own_settings().values() if setting.about.option]
    assert len(set(options)) == len(options)


@pytest.mark.parametrize("variant", list(VARIANTS.values()), ids=list(VARIANTS))
def test_a_kind_says_what_it_is_called_and_how_it_is_drawn(variant):
    assert VARIANTS[variant.kind] is variant
    assert variant.title
    assert variant.style.marker
    assert variant.export_code
    assert variant() == variant()
    assert not set(variant.settings()) & set(SaeConfig.model_fields)
