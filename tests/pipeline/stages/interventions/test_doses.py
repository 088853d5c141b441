"""What a dose is a multiple of: a quantile of a latent's activations, or their mean, on the images that select."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from tests.pipeline.in_process import run_jobs
from tests.pipeline.stages.interventions.small_plans import EDITS, QUICK, plan_interventions, query
from tests.small import register_small

import hsae
from hsae.catalog import Dataset, transaction
from hsae.datasets.split import split_images
from hsae.interventions.choice import LatentUse
from hsae.interventions.config import InterveneSettings
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.inputs.labels import listed_labels
from hsae.pipeline.inputs.stored import read_listing, read_taxonomy
from hsae.pipeline.stages.interventions.arms import ArmMaker
from hsae.split_config import SplitConfig


def slow_unit(z, kind, quantile):
    """Of one latent, from its activations on the images that select; 0 where it never fires."""
    fired = [float(value) for value in z if value > 0]
    if kind == "add":
        return sum(fired) / len(fired) if fired else 0.0
    if quantile is None:
        return 1.0
    return float(np.quantile(np.array(fired, np.float64), quantile)) if fired else 0.0


@given(
    seed=st.integers(0, 1000),
    way=st.sampled_from(
        [("scale", None), ("add", None), ("clamp", None), *(("clamp", q) for q in (0.0, 0.5, 0.9, 1.0))]
    ),
)
def test_units_are_those_of_a_loop_over_images(seed, way):
    """Also of latents that fire once, never, and always the same."""
    rng, (kind, quantile) = np.random.default_rng(seed), way
    z = np.maximum(rng.integers(-5, 5, (12, 9)) / 4, 0).astype(np.float32)
    z[:, 0] = 0
    z[:, 1] = np.arange(12) == 7
    z[:, 2] = 0.75
    settings = InterveneSettings(edit=kind, quantile=quantile)
    latents = np.sort(rng.permutation(9)[:6])
    maker: Any = SimpleNamespace(_settings=settings, z=csr_array(z))
    found = ArmMaker._unit(maker, latents, LatentUse.of(csr_array(z), rng.random(12) < 0.5))
    assert found.tolist() == pytest.approx([slow_unit(z[:, latent], kind, quantile) for latent in latents], rel=1e-6)


@pytest.mark.slow
def test_clamping_and_adding_move_the_rows_as_far_as_a_loop_says(service, monkeypatch):
    """In the last layer readouts see the edited row itself, so that what an edit adds to it is known."""
    register_small(service, n_classes=30)
    shared = {
        "nodes": ("bird.n.01",), "choose": "selectivity", "max_density": 1.0, "n_latents": 4, "n_random": 1,
        "n_shuffles": 9, "readouts": ("probe",),
    }  # fmt: skip
    clamped = InterveneSettings(edit="clamp", quantile=0.9, doses=(0.0, 0.5, 2.0), **shared)
    added = InterveneSettings(edit="add", doses=(-1.0, 0.5), **shared)
    taken = InterveneSettings(controls=("random",), **shared)
    for settings in (clamped, added, taken):
        plan = plan_interventions(service, settings, sae=QUICK, layers=(5,))
        assert run_jobs(service, plan, *(("intervene",) if settings is not clamped else ()))[-1] == "succeeded"
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    analysis = hsae.open().study(plan.study_id).analysis(layer=5)
    stored, weight = analysis.latent_activations(), analysis.sae().decoder_weight.double().numpy()
    with transaction(service.sessions) as session:
        dataset = dataset_ref(session.query(Dataset).one())
    listing, taxonomy = read_listing(service.store, dataset), read_taxonomy(service.store, dataset)
    node = next(number for number, synset in enumerate(taxonomy.synsets) if synset.name == "bird.n.01")
    labels = np.asarray(listed_labels(listing, taxonomy))
    is_bird = taxonomy.closure.toarray()[:, node][labels][stored.images] > 0
    split, z = split_images(listing, SplitConfig()), stored.z.toarray().astype(np.float64)
    select, score = split.select[stored.images], split.score[stored.images]

    def moved(latents, kind, dose, images):
        """The mean squared length of the change, in units of the SAE's input."""
        units = [slow_unit(z[select, latent], kind, 0.9 if kind == "clamp" else None) for latent in latents]
        lengths = []
        for image in np.flatnonzero(images):
            own = z[image, latents]
            wanted = {"scale": dose * own, "clamp": dose * np.array(units), "add": own + dose * np.array(units)}[kind]
            lengths.append((((wanted - own) @ weight[latents]) ** 2).sum())
        return np.mean(lengths)

    rows = query(service, EDITS.replace("SELECT i.*", "SELECT i.*, s.config ->> 'edit' AS edit"))
    assert len(rows) == 2 * (3 + 2 + 1)
    known = next(row for row in rows if (row["edit"], row["arm"]) == ("scale", "latents"))
    unit = known["moved_inside"] / moved(known["latents"], "scale", 0.0, score & is_bird)  # of another scale
    for row in rows:
        for name, images in (("moved_inside", score & is_bird), ("moved_outside", score & ~is_bird)):
            expected = moved(row["latents"], row["edit"], row["dose"], images)
            assert row[name] == pytest.approx(unit * expected, rel=2e-3), (row["edit"], row["arm"], row["dose"], name)
    # Clamped to 0 is taken away, by another formula.
    for arm in ("latents", "random"):
        zero, gone = (
            next(row for row in rows if (row["edit"], row["arm"], row["dose"]) == (edit, arm, 0.0))
            for edit in ("clamp", "scale")
        )
        for name in ("latents", "specificity_log_odds", "accuracy_outside_after", "moved_inside"):
            assert zero[name] == pytest.approx(gone[name], rel=1e-6)
