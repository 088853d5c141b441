"""A study with `decode: scaled`: every job, Python and the explorer decode a large JPEG at the same smaller size."""

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tests.pipeline.in_process import run_study
from tests.pipeline.stages.interventions.small_plans import QUICK, query
from tests.small import bare_scoring, register, small_request

from hsae.api.service.analysis import open_analysis
from hsae.datasets import ImageFile
from hsae.demo import clip_folder, images_folder
from hsae.explorer.reading.sources import Cache, Sources
from hsae.explorer.reading.wanted import wanted_of
from hsae.extraction.config import ExtractionConfig
from hsae.interventions.config import InterveneSettings
from hsae.pipeline.connections import Connections
from hsae.pipeline.execution.run import run_job
from hsae.pipeline.planning.submit import submit
from hsae.pipeline.stages.interventions.single_images import _LAST_SET
from hsae.relevancy.config import MapSettings
from hsae.split_config import SplitConfig
from hsae.store.activations import read_manifest
from hsae.text.config import NameSettings

pytestmark = pytest.mark.slow

SIDE, SMALL_SIDE = 520, 130  # the model's input has 64: 130 is enough, 65 is not
LAYER = 3
OWN = {
    "map": MapSettings(latents=4, images=2, methods=("gradient",), batch_size=4),
    "intervene": InterveneSettings(label_effects=3, n_random=1, n_shuffles=9, readouts=("probe",), start="images"),
    "names": NameSettings(by=str(clip_folder()), n_shuffles=9, images=2, latents=10),
}


def write_jpegs(folder: Path, n_classes: int) -> Path:
    """Bundled images, enlarged, in the folders of their classes."""
    for source in sorted(images_folder().iterdir())[:n_classes]:
        (folder / source.name).mkdir(parents=True)
        for image in sorted(source.iterdir()):
            whole = Image.open(image).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            whole.save(folder / source.name / f"{image.stem}.jpg", quality=90)
    return folder


class Sizes:
    """At what sizes images were decoded since it was last asked."""

    def __init__(self) -> None:
        self._found: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    def add(self, size: tuple[int, int]) -> None:
        with self._lock:
            self._found.append(size)

    def new(self) -> set[tuple[int, int]]:
        found, self._found = set(self._found), []
        return found


@pytest.fixture(scope="module")
def sizes():
    found, decode = Sizes(), ImageFile.decode

    def decoded(file):
        image = decode(file)
        found.add(image.decoded_size)
        return image

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageFile, "decode", decoded)
        yield found


@pytest.fixture(scope="module")
def made(make_service, sizes):
    """A study with everything that looks at images, its extraction in parts, beside an exact extraction."""
    service = make_service(extraction_part_images=40)
    folder = write_jpegs(service.folder / "jpegs", 25)
    register(service, "jpegs", folder)
    sizes.new()

    def plan(decode, **changes):
        request = small_request(
            "jpegs", layers=(LAYER,), saes=(QUICK,), scoring=bare_scoring(embeddings="last"), split=SplitConfig(),
            extraction=ExtractionConfig(shard_images=20, batch_size=20, decode=decode), **changes,
        )  # fmt: skip
        return submit(request, service.settings, service.sessions)

    study = plan("scaled", own=OWN)
    seen: dict[str, set[tuple[int, int]]] = {}
    for job in sorted(study.jobs, key=lambda job: job.kind != "part"):
        assert run_job(job.id, service.settings, "test") == "succeeded", job.title
        seen[job.kind] = seen.get(job.kind, set()) | sizes.new()
    exact = plan("exact")
    run_study(service, exact.study_id)
    assert sizes.new() == {(SIDE, SIDE)}
    (analysis,) = query(service, "SELECT i.analysis_id FROM analysis_input i JOIN study_job s ON s.job_id = i.job_id"
                        " WHERE s.study_id = :study AND i.layer = 3", study=study.study_id)  # fmt: skip
    return SimpleNamespace(
        service=service, study=study, exact=exact, seen=seen, folder=folder, analysis=analysis["analysis_id"]
    )


def test_every_job_decodes_at_the_smaller_size(made):
    looking = {kind: found for kind, found in made.seen.items() if found}
    assert looking == {kind: {(SMALL_SIDE, SMALL_SIDE)} for kind in ("part", "map", "intervene", "names")}


def test_it_is_another_extraction_and_says_so(made):
    keys = [{job.key for job in plan.jobs} for plan in (made.study, made.exact)]
    assert keys[0].isdisjoint(keys[1])
    assert "decode=scaled" in next(job.title for job in made.study.jobs if job.kind == "extract")
    sets = query(made.service, "SELECT s.key, s.manifest_sha256, j.request -> 'extraction' ->> 'decode' AS decode"
                 " FROM activation_set s JOIN job j ON j.id = s.job_id")  # fmt: skip
    assert len(sets) == 2 * 2, "of the layer, and of the last one, in which images are compared"
    for row in sets:
        manifest = read_manifest(made.service.store, row["key"], sha256=row["manifest_sha256"])
        assert manifest.decode == (row["decode"] or "exact")
    for table in ("map_set", "intervention_set", "name_set"):
        rows = query(made.service, f"SELECT config ->> 'decode' AS decode FROM {table}")
        assert {row["decode"] for row in rows} == {"scaled"}, table


@pytest.fixture(scope="module")
def opened(made):
    """The analysis in Python, and the explorer's reading of it."""
    connections = Connections()
    connections.use(made.service.settings)
    sources = Sources(made.service.settings, Cache(made.service.folder / "cache"))
    yield open_analysis(connections, made.analysis), sources
    sources.close()


def test_python_and_the_explorer_see_the_stored_latents(made, opened, sizes):
    analysis, sources = opened
    path = sorted(made.folder.glob("*/*.jpg"))[7]
    sizes.new()
    z = analysis.encode([path])[0]
    with sources.reading() as session:
        wanted = wanted_of(session, made.analysis)
    assert wanted.decode == "scaled"
    uploaded = sources.encoder.encode(path.read_bytes(), wanted).latents
    assert sizes.new() == {(SMALL_SIDE, SMALL_SIDE)}
    stored = analysis.latent_activations()
    place = list(stored.images).index(7)
    expected = stored.z.toarray()[place]
    np.testing.assert_allclose(z, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose([value for _, value in uploaded], np.sort(expected[expected > 0])[::-1], rtol=1e-3)


def test_edits_see_the_same(made, opened, sizes):
    analysis, sources = opened
    path = sorted(made.folder.glob("*/*.jpg"))[7]
    latent = int(np.argmax(analysis.encode([path])[0]))
    sizes.new()
    edited = analysis.edit([path], {latent: 0.0})
    shown = sources.editor.edit(path.read_bytes(), made.analysis, {latent: 0.0}, "scale")
    assert sizes.new() == {(SMALL_SIDE, SMALL_SIDE)}
    assert shown.activations[latent] == pytest.approx(float(edited.activations[0, 0]), rel=1e-3)


@pytest.mark.parametrize("decode", ["scaled", "exact"])
def test_the_probe_of_edits_is_trained_on_rows_of_the_same_decoding(made, decode):
    asked = {"analysis": made.analysis, "last": 5, "tokens": ["cls"], "decode": decode}
    (found,) = query(made.service, _LAST_SET, **asked)
    (row,) = query(made.service, "SELECT coalesce(j.request -> 'extraction' ->> 'decode', 'exact') AS decode"
                   " FROM activation_set s JOIN job j ON j.id = s.job_id WHERE s.key = :key", **found)  # fmt: skip
    assert row["decode"] == decode
