"""Studies of a few bundled images with everything that a report may meet: names that are code, no split, no scores."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import text
from tests.conftest import Service, services_on
from tests.pipeline.in_process import run_jobs
from tests.small import quick_scoring, register, small_request

from hsae.catalog import transaction
from hsae.cli.main import cli
from hsae.demo import images_folder, images_listing
from hsae.pipeline.planning.submit import submit
from hsae.sae.config import SaeConfig
from hsae.split_config import NamedGroups, SplitConfig

EVIL = "<script>alert(1)</script>"
EVIL_NAME = "<img src=x onerror=alert(3)>"
EVIL_FILE = '"><img src=x onerror=alert(2)>.webp'
HELD_OUT, IN_SAMPLE, QUEUED, UNCOMPARED = 1, 2, 3, 4
N_CLASSES = 15
SAES = (
    SaeConfig(kind="topk", k=4, expansion=2, n_steps=60),
    SaeConfig(kind="relu", expansion=2, n_steps=60),
)


@dataclass(frozen=True)
class Reported:
    """A service with four studies, and how to report them."""

    service: Service
    root: Path

    def rows(self, query: str, **values: object) -> list[dict]:
        """Ask the catalog."""
        with transaction(self.service.sessions) as session:
            return [dict(row) for row in session.execute(text(query), values).mappings()]

    def run(self, *arguments: object):
        """Run `hsae-admin report ARGUMENTS`."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.service.environment.items():
                patch.setenv(name, value)
            return CliRunner().invoke(cli, ["report", *map(str, arguments)])

    def report(self, study: int, path: Path) -> Path:
        """The report of a study."""
        done = self.run(study, "-o", path)
        assert done.exit_code == 0, done.output
        return path


def _images(folder: Path) -> Path:
    """A CSV of the bundled images of some classes, one of which is called like a script, and one file too."""
    with images_listing().open(newline="") as file:
        rows = list(csv.DictReader(file))
    wnids = sorted({row["label"] for row in rows})[:N_CLASSES]
    names = {wnid: EVIL if place == 3 else f"class {place:02d}" for place, wnid in enumerate(wnids)}
    listed = []
    for row in rows:
        if row["label"] in names:
            target = folder / row["path"]
            if names[row["label"]] == EVIL and row["group"] == "noto":
                target = target.with_name(EVIL_FILE)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(images_folder().parent / row["path"])
            listed.append((target.relative_to(folder).as_posix(), names[row["label"]], row["group"]))
    with (folder / "images.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "group"), *listed])
    with (folder / "tree.csv").open("w", newline="") as file:
        groups = {
            name: f"group {'& <b>one</b>' if place < 5 else place // 5}" for place, name in enumerate(names.values())
        }
        edges = [*groups.items(), *((group, "all things") for group in dict.fromkeys(groups.values()))]
        csv.writer(file).writerows([("child", "parent"), *edges])
    return folder / "images.csv"


@pytest.fixture(scope="package")
def reported(stack, tmp_path_factory) -> Iterator[Reported]:
    """Study 1 is held out and of two layers and two SAEs, 2 in-sample, 3 queued, and 4 not compared yet."""
    with services_on(stack, tmp_path_factory) as make_service:
        yield _reported(make_service(), tmp_path_factory)


def _reported(service: Service, tmp_path_factory) -> Reported:
    root = tmp_path_factory.mktemp("named-like-code")
    register(service, EVIL_NAME, _images(root), root / "tree.csv")
    split = SplitConfig(groups=NamedGroups(select=("fluent3d",), score=("noto", "fxemoji")))
    wanted = small_request(EVIL_NAME, saes=SAES, split=split, scoring=quick_scoring(n_replicates=8, n_tree_shuffles=5))
    plans = [
        submit(request, service.settings, service.sessions)
        for request in (
            wanted,
            wanted.model_copy(update={"split": None, "layers": (3,), "saes": SAES[:1]}),
            wanted.model_copy(update={"layers": (2,)}),
            wanted.model_copy(update={"layers": (3,)}),
        )
    ]
    for plan in plans[:2]:
        assert set(run_jobs(service, plan)) <= {"succeeded", "not queued"}  # not those that an earlier study ran
    return Reported(service, root)
