"""Two data sets of the bundled images, drawn in other styles: a study trains on one and scores on the other."""

from types import SimpleNamespace

import torch
from click.testing import CliRunner
from sqlalchemy import select, text
from tests.pipeline.in_process import TINY_SAE, run_jobs
from tests.small import quick_scoring, small_request

from hsae.catalog import Dataset, transaction
from hsae.cli.main import cli
from hsae.demo import images_folder
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.inputs.image_split import read_split
from hsae.pipeline.planning.submit import submit
from hsae.split_config import ScoreSplit, SplitConfig
from hsae.store.tensors import get_tensors
from hsae.vocabulary.bases import CONTROL_BASES

DRAWN = ("fluent-emoji", "fluent-emoji-flat", "fluent3d")
OTHER = ("noto", "fxemoji")


def _images(name):
    return sorted((images_folder() / name).iterdir())


CLASSES = sorted((path.name for path in images_folder().iterdir()), key=lambda name: (-len(_images(name)), name))
BOTH = slice(1, 7)  # classes of both data sets
SCORING = quick_scoring(n_shuffles=1, n_random=1, controls=(*CONTROL_BASES,))


def query(service, statement, **values):
    with transaction(service.sessions) as session:
        return [dict(row) for row in session.execute(text(statement), values).mappings()]


def listed(folder, styles, classes):
    """A CSV of the bundled images of some styles and classes; the style is the group."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "images").symlink_to(images_folder(), target_is_directory=True)
    paths = [path for name in classes for path in _images(name)]
    rows = [(f"images/{path.parent.name}/{path.name}", path.parent.name, path.name.split(".")[-2]) for path in paths]
    csv = folder / f"{folder.name}.csv"
    csv.write_text("\n".join(["path,label,group", *(",".join(row) for row in rows if row[2] in styles)]))
    return csv


def request_of(**changes):
    values = {
        "layers": (1,), "saes": (TINY_SAE,), "scoring": SCORING, "split": SplitConfig(), "score_dataset": "other",
        "extraction": ExtractionConfig(shard_images=9, batch_size=6),
    }  # fmt: skip
    return small_request("drawn", **(values | changes))


def finished_study(service):
    """The study run to its end, with its rows."""
    plan = submit(request_of(), service.settings, service.sessions)
    run_jobs(service, plan)
    states = query(service, "SELECT state, error FROM job WHERE id = ANY(:ids)", ids=[job.id for job in plan.jobs])
    assert {row["state"] for row in states} == {"succeeded"}, states
    (sae,) = query(service, "SELECT * FROM sae")
    (analysis,) = query(service, "SELECT * FROM analysis")
    (probe,) = query(service, "SELECT * FROM class_probe")
    with transaction(service.sessions) as session:
        of_name = {row.name: dataset_ref(row) for row in session.scalars(select(Dataset))}
    split = read_split(service.store, of_name["other"], ScoreSplit())
    return SimpleNamespace(plan=plan, sae=sae, analysis=analysis, probe=probe, of_name=of_name, split=split)


def activations_of(service, dataset, layer=1):
    """The plain rows of a data set, in the order of its listing."""
    shards = query(
        service,
        "SELECT object_key FROM activation_shard h JOIN activation_set s ON s.id = h.activation_set_id"
        " JOIN dataset d ON d.id = s.dataset_id WHERE d.name = :name AND s.layer = :layer ORDER BY shard",
        name=dataset,
        layer=layer,
    )
    return torch.cat(
        [get_tensors(service.store, shard["object_key"], sha256=None)[0]["activations"] for shard in shards]
    ).numpy()


def shown(service, monkeypatch, *arguments):
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout
