"""A job that reads edits with the model's own classifier: what it says unedited is what the whole model says."""

import json

import numpy as np
import pytest
import torch
from tests.pipeline.in_process import run_jobs
from tests.pipeline.stages.interventions.small_plans import EDITS, QUICK, plan_interventions, query
from tests.small import register_small
from transformers import AutoModel, Dinov2Config, Dinov2ForImageClassification

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.catalog import Dataset, transaction
from hsae.datasets import ImageFile, source_at
from hsae.datasets.split import split_images
from hsae.demo import backbone_folder
from hsae.interventions.config import InterveneSettings
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.inputs.stored import read_listing
from hsae.split_config import SplitConfig

N_CLASSES = 30
SETTINGS = InterveneSettings(
    nodes=("bird.n.01",), choose="selectivity", max_density=1.0, n_shuffles=9, n_random=1, readouts=("classifier",)
)


@pytest.fixture
def classifier(service, tmp_path):
    """The bundled backbone with a random classifier of the registered classes, in another order, and of the moon."""
    register_small(service, n_classes=N_CLASSES)
    rows = query(service, "SELECT y.wnid FROM dataset_class c JOIN synset y ON y.id = c.synset_id ORDER BY y.wnid DESC")
    labels = dict(enumerate(["moon", *(row["wnid"] for row in rows)]))
    config = Dinov2Config.from_pretrained(
        backbone_folder(), id2label=labels, label2id={v: k for k, v in labels.items()}
    )
    torch.manual_seed(0)
    model = Dinov2ForImageClassification(config).eval()
    model.dinov2.load_state_dict(AutoModel.from_pretrained(backbone_folder()).state_dict())
    folder = tmp_path / "classifier"
    model.save_pretrained(folder)
    preprocessor = json.loads((backbone_folder() / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder, model, labels


@pytest.mark.slow
def test_the_own_classifier_reads_a_job_and_agrees_with_the_whole_model(service, classifier):
    folder, model, labels = classifier
    plan = plan_interventions(service, SETTINGS, sae=QUICK, model=str(folder))
    assert set(run_jobs(service, plan)) == {"succeeded"}
    edits = query(service, EDITS)
    assert {row["readout"] for row in edits} == {"classifier"}
    assert {row["arm"] for row in edits} >= {"latents", "random"}

    with transaction(service.sessions) as session:
        dataset = dataset_ref(session.query(Dataset).one())
    listing = read_listing(service.store, dataset)
    split = split_images(listing, SplitConfig())
    scored = np.flatnonzero(split.score)
    backbone = Backbone.load(inspect_backbone(str(folder)), layers=(0,), device=torch.device("cpu"))
    source, paths, wnids = source_at(dataset.root), listing["path"].to_pylist(), listing["class_id"].to_pylist()
    decoded = [
        ImageFile(source.open(paths[image]), paths[image], max_pixels=10**8).decode() for image in scored.tolist()
    ]
    with torch.no_grad():
        logits = model(backbone.pixel_values(decoded)).logits[:, 1:]  # the moon is no class of the data set
    found = [labels[1 + place] for place in logits.argmax(1).tolist()]
    accuracy = float(np.mean([name == wnids[image] for name, image in zip(found, scored, strict=True)]))
    (row,) = query(service, "SELECT * FROM intervention_readout")
    assert (row["readout"], row["accuracy"]) == ("classifier", pytest.approx(accuracy))
    output_of = {name: place - 1 for place, name in labels.items()}
    own = [output_of[wnids[image]] for image in scored]
    log_p = torch.log_softmax(logits.double(), 1)[torch.arange(len(own)), own]
    assert row["cross_entropy"] == pytest.approx(-float(log_p.mean()), rel=1e-5)
