"""Where curves also go: TensorBoard and Weights & Biases for real where they are installed, and what goes wrong."""

import importlib.util
import json

import pytest

from hsae.errors import UserError
from hsae.pipeline.stages.evaluation.sinks import CurveSink, open_sinks
from hsae.settings import Settings

KEY = "0123456789abcdef" * 4
POINT = {"sae_key": KEY, "step": 7, "job_id": 1, "loss": 0.5, "fvu": None, "l0": 12.25}
TITLE = "train topk SAE x8 (k=16) of dinov2-emoji layer 5, cls on a/b"


@pytest.mark.parametrize(
    ("package", "setting"), [("tensorboard", {"tensorboard_dir": "/nowhere"}), ("wandb", {"wandb_project": "mine"})]
)
def test_a_setting_without_its_package_is_one_line(package, setting, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))
    variable = f"HSAE_{next(iter(setting)).upper()}"
    with (
        pytest.raises(UserError, match=rf"^{variable} is set, .* {package} .*pip install '.\[{package}\]'") as error,
        open_sinks(Settings(**setting), KEY, TITLE, {}, first_step=0),
    ):
        pytest.fail("opened")
    assert "\n" not in str(error.value)


def test_no_setting_no_sink():
    with open_sinks(Settings(), KEY, TITLE, {}, first_step=0) as sinks:
        assert sinks == []


def test_a_tracker_that_fails_is_left_with_a_warning_and_the_training_goes_on(caplog):
    class Full:
        n = 0

        def send(self, step, values):
            self.n += 1
            raise OSError("no space\nleft")

        def close(self):
            raise AssertionError

    tracker = Full()
    sink = CurveSink("TensorBoard", tracker)
    sink.add(POINT)
    sink.add(POINT)
    sink.close()
    assert tracker.n == 1
    (record,) = caplog.records
    assert record.getMessage() == "TensorBoard gets no further points (OSError: no space left); they are in sae_curve"


def test_tensorboard_reads_the_points_of_two_attempts_as_one_curve(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra hsae[tensorboard] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = Settings(tensorboard_dir=tmp_path)
    with open_sinks(settings, KEY, TITLE, {}, first_step=0) as (sink,):
        for step in (1, 2, 3):
            sink.add(POINT | {"step": step, "l0": float(step)})
    with open_sinks(settings, KEY, TITLE, {}, first_step=1) as (sink,):  # what came after its checkpoint is sent again
        for step in (2, 3):
            sink.add(POINT | {"step": step, "l0": float(step)})
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"train_topk_SAE_x8__k=16__of_dinov2-emoji_layer_5,_cls_on_a_b-{KEY[:12]}"
    events = EventAccumulator(str(folder)).Reload()
    assert events.Tags()["scalars"] == ["loss", "l0"]
    assert [(event.step, event.value) for event in events.Scalars("l0")] == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra hsae[tensorboard] is not installed")
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="TensorBoard cannot be opened .* or unset HSAE_TENSORBOARD_DIR"),
        open_sinks(Settings(tensorboard_dir=tmp_path / "file"), KEY, TITLE, {}, first_step=0),
    ):
        pytest.fail("opened")


def test_wandb_keeps_the_points_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="the extra hsae[wandb] is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with open_sinks(Settings(wandb_project="mine"), KEY, TITLE, {"k": 16}, first_step=0) as (sink,):
        for step in (1, 2):
            sink.add(POINT | {"step": step})
        summary = dict(vars(sink._tracker)["_run"].summary)  # a step is final once the next one comes
    assert {name: summary[name] for name in ("loss", "l0", "_step")} == {"loss": 0.5, "l0": 12.25, "_step": 1}
    assert "fvu" not in summary
    (log,) = tmp_path.rglob("*.wandb")
    content = log.read_bytes()
    assert KEY[:32].encode() in content
    assert json.dumps(TITLE)[1:-1].encode() in content
