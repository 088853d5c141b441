"""Several trainings over one pass: each has the bits of a training by itself, and every window is read once."""

import threading

import pytest
from tests.sae.small_trainings import CPU, SHORT, assert_same_tensors
from tests.sae.stored_shards import ShardsInMemory
from tests.sae.training.test_last_good import CONFIG as FRAGILE
from tests.sae.training.test_last_good import Fragile, bearable
from tests.sae.training.test_streaming import SIZES, streamed

from hsae.errors import UserError
from hsae.sae.config import SaeConfig
from hsae.sae.rows.shared_pass import Seat, SharedPass
from hsae.sae.rows.streamed_rows import StreamedRows
from hsae.sae.training.checkpoint import Checkpoint
from hsae.sae.training.trainer import CheckpointSaving, TrainedSae, train
from hsae.sae.variants import VARIANTS

CONFIGS = {name: streamed(config) for name, config in SHORT.items()}


@pytest.fixture
def shards(planted) -> ShardsInMemory:
    return ShardsInMemory.of(planted(300, 8, 12, 2)[0], SIZES, n_views=2)


def at_once(works):
    """What each of these functions of a seat made or raised, all in threads of one pass."""
    shared = SharedPass(len(works))
    made = {}

    def run(name, work):
        with shared.seat() as seat:
            try:
                made[name] = work(seat)
            except UserError as error:
                made[name] = error

    threads = [threading.Thread(target=run, args=item) for item in works.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(thread.name == "windows" for thread in threading.enumerate())
    return made


def training(shards: ShardsInMemory, config: SaeConfig, **further):
    def work(seat: Seat) -> TrainedSae:
        return train(config, StreamedRows(shards, seat), device=CPU, **further)

    return work


def test_each_has_the_bits_of_a_training_by_itself_and_windows_are_read_once(shards):
    # Without held-out rows no window is so small that a pass drops all of its rows, and nobody waits for it.
    configs = {name: config.model_copy(update={"holdout_share": 0.0}) for name, config in CONFIGS.items()}
    expected, n_alone = {}, []
    for name, config in configs.items():
        expected[name] = train(config, StreamedRows(shards), device=CPU)
        n_alone.append(len(shards.read_shards))
        shards.read_shards.clear()
    # One step, with all rows in one window, reads that window and the samples.
    one_step = configs["topk"].model_copy(update={"n_steps": 1, "window_shards": 100})
    train(one_step, StreamedRows(shards), device=CPU)
    n_of_windows = n_alone[list(configs).index("topk")] - (len(shards.read_shards) - len(SIZES))
    assert n_of_windows >= 4 * len(SIZES)  # passes
    shards.read_shards.clear()
    made = at_once({name: training(shards, config) for name, config in configs.items()})
    for name, trained in expected.items():
        assert_same_tensors(made[name].sae.to_tensors(), trained.sae.to_tensors())
        assert made[name].metrics == trained.metrics
    assert len(shards.read_shards) == sum(n_alone) - (len(configs) - 1) * n_of_windows


def test_trainings_of_other_lengths_and_other_rows_may_sit_beside_each_other(shards):
    configs = {
        "short": CONFIGS["topk"].model_copy(update={"n_steps": 10}),
        "long": CONFIGS["topk"],
        "other seed": CONFIGS["relu"].model_copy(update={"seed": 9}),
        "other batch": CONFIGS["relu"].model_copy(update={"batch_size": 20}),
    }
    made = at_once({name: training(shards, config) for name, config in configs.items()})
    for name, config in configs.items():
        assert_same_tensors(
            made[name].sae.to_tensors(), train(config, StreamedRows(shards), device=CPU).sae.to_tensors()
        )


def test_one_that_goes_back_to_an_earlier_step_is_waited_for(shards, monkeypatch):
    monkeypatch.setitem(VARIANTS, Fragile.kind, Fragile)
    for what, limit in {"loss": 0.6, "gradient": 9.0, "weights": 9.0}.items():
        monkeypatch.setitem(bearable, what, limit)
    fragile = SaeConfig.parse({**FRAGILE, "rows": "stream", "window_shards": 1})
    other = SaeConfig.parse({**FRAGILE, "kind": "topk", "rows": "stream", "window_shards": 1})
    made = at_once({"fragile": training(shards, fragile), "other": training(shards, other)})
    assert made["fragile"].metrics.rate_halvings == 1
    for name, config in (("fragile", fragile), ("other", other)):
        expected = train(config, StreamedRows(shards), device=CPU)
        assert_same_tensors(made[name].sae.to_tensors(), expected.sae.to_tensors())


def test_one_that_fails_or_never_begins_does_not_keep_the_others(shards):
    def stop(report):
        if report.step == 12:
            raise UserError("stopped")

    def absent(seat: Seat):
        raise UserError("never began")

    made = at_once(
        {
            "stopped": training(shards, CONFIGS["relu"], on_step=stop),
            "absent": absent,
            "whole": training(shards, CONFIGS["topk"]),
        }
    )
    assert {name: str(error) for name, error in made.items() if name != "whole"} == {
        "stopped": "stopped",
        "absent": "never began",
    }
    expected = train(CONFIGS["topk"], StreamedRows(shards), device=CPU)
    assert_same_tensors(made["whole"].sae.to_tensors(), expected.sae.to_tensors())


def test_trainings_go_on_from_different_checkpoints(shards):
    saved: dict[str, Checkpoint] = {}
    config = CONFIGS["topk"]
    straight = train(
        config,
        StreamedRows(shards),
        device=CPU,
        saving=CheckpointSaving(lambda: True, lambda made: saved.update({made.metadata["step"]: made})),
    )
    made = at_once({step: training(shards, config, checkpoint=saved.get(step)) for step in ("0", "3", "30")})
    for trained in made.values():
        assert_same_tensors(trained.sae.to_tensors(), straight.sae.to_tensors())
