"""Stage extract: what is stored, what is skipped, and what an interruption costs."""

from threading import Event

import pytest
from PIL import Image
from sqlalchemy import select, text, update
from tests.pipeline.in_process import CountingStore, attempt, job_id, plan_small, run_jobs, run_study
from tests.small import register, register_small

from hsae.catalog import ActivationSet, ActivationShard, Job, transaction
from hsae.catalog.queries.jobs import show_job
from hsae.errors import LeaseLostError
from hsae.extraction.config import ExtractionConfig
from hsae.extraction.shards import extract_shard
from hsae.pipeline.stages.activations import shard_pass
from hsae.pipeline.stages.extract import extract
from hsae.pipeline.stages.latent_activations import get_latent_activations
from hsae.store.activations import read_manifest, read_shard
from hsae.store.objects import ObjectStore


def plan_extraction(service, *, layers=(1, 3), **extraction):
    config = ExtractionConfig(**{"shard_images": 5, "batch_size": 3, **extraction})
    return plan_small(service, layers=layers, extraction=config)


def rows_of(service, table):
    with transaction(service.sessions) as session:
        return session.scalars(select(table).order_by(*table.__table__.primary_key)).all()


def job_row(service, number):
    with transaction(service.sessions) as session:
        return session.get_one(Job, number)


@pytest.fixture(scope="module")
def ready(make_service):
    """A service with a data set of three classes, thirteen images."""
    service = make_service()
    register_small(service, n_classes=3)
    return service


@pytest.mark.parametrize(
    ("tokens", "n_tokens", "dtype", "n_views"),
    [
        ("cls", 1, "float32", 1),
        ("mean", 1, "bfloat16", 2),
        ("patches", 64, "float32", 1),
        ("patches", 64, "bfloat16", 2),
    ],
)
def test_rows_of_an_activation_set(ready, tokens, n_tokens, dtype, n_views):
    plan = plan_extraction(ready, tokens=tokens, dtype=dtype, n_views=n_views)
    assert run_jobs(ready, plan, "extract") == ["succeeded"]
    sets = [row for row in rows_of(ready, ActivationSet) if row.job_id == job_id(plan, "extract")]
    assert sorted(row.layer for row in sets) == [1, 3]
    n_rows = 13 * n_tokens * n_views
    assert job_row(ready, job_id(plan, "extract")).result == {
        "layers": [1, 3], "rows_per_layer": n_rows, "n_images": 13, "n_skipped": 0,
    }  # fmt: skip
    for row in sets:
        assert (row.n_rows, row.n_images, row.n_skipped, row.n_views) == (n_rows, 13, 0, n_views)
        manifest = read_manifest(ready.store, row.key, sha256=row.manifest_sha256)
        assert (manifest.n_tokens, manifest.n_rows, manifest.dtype, manifest.layer) == (
            n_tokens,
            n_rows,
            dtype,
            row.layer,
        )
        assert [(e.first_image, e.end_image) for e in manifest.shards] == [(0, 5), (5, 10), (10, 13)]
        for entry in manifest.shards:
            shard = read_shard(ready.store, entry)
            for image in range(entry.first_image, entry.end_image):
                views = shard.view[shard.image_index == image]
                assert views.tolist() == [view for view in range(n_views) for _ in range(n_tokens)]


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_the_manifest_says_the_precision(ready, precision):
    plan = plan_extraction(ready, layers=(1,), precision=precision, seed=1)
    assert run_jobs(ready, plan, "extract") == ["succeeded"]
    (row,) = [row for row in rows_of(ready, ActivationSet) if row.job_id == job_id(plan, "extract")]
    manifest = read_manifest(ready.store, row.key, sha256=row.manifest_sha256)
    assert manifest.precision == precision
    assert ('"precision"' in manifest.to_json()) == (precision != "float32")


def _with_unreadable(service, tmp_path, *unreadable: int):
    """Two classes of six images, some of which are no images; registered as `small`."""
    for number in range(12):
        folder = tmp_path / ("n02084071" if number < 6 else "n02121808")
        folder.mkdir(exist_ok=True)
        path = folder / f"{number:02}.png"
        Image.effect_noise((70, 70), 20 + 15 * number).convert("RGB").save(path)
        if number in unreadable:
            path.write_bytes(path.read_bytes()[:300])
    register(service, "small", tmp_path)


def test_an_unreadable_image_is_skipped_counted_named_and_never_scored(make_service, tmp_path):
    service = make_service(max_skipped_share=0.2)
    _with_unreadable(service, tmp_path, 2, 7)
    plan = plan_extraction(service, layers=(3,))
    assert run_jobs(service, plan) == ["succeeded"] * len(plan.jobs)
    (row,) = rows_of(service, ActivationSet)
    assert (row.n_images, row.n_skipped, row.n_rows) == (10, 2, 10)
    manifest = read_manifest(service.store, row.key, sha256=row.manifest_sha256)
    assert [(entry.image, entry.path) for entry in manifest.skipped] == [
        (2, "n02084071/02.png"),
        (7, "n02121808/07.png"),
    ]
    with transaction(service.sessions) as session:
        _, events = show_job(session, job_id(plan, "extract"))
        analysis = session.execute(text("SELECT key, n_images, activations_sha256 FROM analysis")).one()
        top = session.execute(
            text("SELECT DISTINCT e->>'path' FROM latent, json_array_elements(CAST(top_images AS json)) e")
        ).scalars().all()  # fmt: skip
        of_root = "SELECT DISTINCT n_images FROM node_score n JOIN synset y ON y.id = n.synset_id WHERE name = :name"
        n_root = session.execute(text(of_root), {"name": "entity.n.01"}).scalars().all()
    named = [entry["path"] for event in events if event["detail"] for entry in event["detail"].get("skipped", [])]
    assert named == ["n02084071/02.png", "n02121808/07.png"]
    assert any("02.png" in event["message"] for event in events)
    assert analysis.n_images == 10
    assert n_root == [10]
    latents = get_latent_activations(service.store, analysis.key, analysis.activations_sha256)
    assert latents.images.tolist() == [0, 1, 3, 4, 5, 6, 8, 9, 10, 11]
    assert top
    assert not {"n02084071/02.png", "n02121808/07.png"} & set(top)


def test_a_shard_without_a_readable_image(make_service, tmp_path):
    service = make_service(max_skipped_share=0.5, max_attempts=1)
    _with_unreadable(service, tmp_path, 4, 5, 6)
    plan = plan_extraction(service, layers=(3,), shard_images=2)
    assert run_jobs(service, plan) == ["succeeded"] * len(plan.jobs)
    (row,) = rows_of(service, ActivationSet)
    assert (row.n_images, row.n_skipped, row.n_rows) == (9, 3, 9)


def _kinds(store: CountingStore) -> list[str]:
    """What was put, without the checksums in the names."""
    return [key.rsplit("/", 1)[1].rsplit("-", 1)[0] for key in store.keys_put]


def test_an_interrupted_extraction_redoes_only_the_missing_shards(service):
    register_small(service, n_classes=3)
    plan = plan_extraction(service)
    number = job_id(plan, "extract")
    first, second = CountingStore.of(service), CountingStore.of(service)
    # Batches of three end at 3, 5 | 8, 10 | 13: the second shard is interrupted in its middle.
    with pytest.raises(OSError, match="at 8 of 13"), attempt(service, number, store=first, stop_at=8) as given:
        extract(*given)
    kept = {(row.activation_set_id, row.shard): row.sha256 for row in rows_of(service, ActivationShard)}
    assert _kinds(first) == ["shard-00000"] * 2  # one per layer
    assert len(kept) == 2
    with attempt(service, number, store=second) as given:
        extract(*given)
    assert _kinds(second) == [*["shard-00001"] * 2, *["shard-00002"] * 2, *["manifest"] * 2]
    resumed = {(row.activation_set_id, row.shard): row.sha256 for row in rows_of(service, ActivationShard)}
    assert kept.items() <= resumed.items()
    assert len(resumed) == 6
    # Everything once more, from nothing: the same bits.
    with transaction(service.sessions) as session:
        session.execute(text("DELETE FROM activation_shard"))
        session.execute(update(ActivationSet).values(manifest_sha256=None))
    before = sorted(service.store.list("activations/"))
    assert run_jobs(service, plan, "extract") == ["succeeded"]
    assert {(row.activation_set_id, row.shard): row.sha256 for row in rows_of(service, ActivationShard)} == resumed
    assert sorted(service.store.list("activations/")) == before  # names carry checksums


def test_a_shard_is_stored_while_the_next_one_is_computed(service, monkeypatch):
    register_small(service, n_classes=2)
    number = job_id(plan_extraction(service, layers=(1,)), "extract")
    n_begun, second_begun = iter(range(9)), Event()

    def noted(*args, **kwargs):
        if next(n_begun) == 1:
            second_begun.set()
        return extract_shard(*args, **kwargs)

    class Waiting(ObjectStore):
        def put(self, key, data, **options):
            assert second_begun.wait(120)
            return super().put(key, data, **options)

    monkeypatch.setattr(shard_pass, "extract_shard", noted)
    with attempt(service, number, store=Waiting.from_settings(service.settings)) as given:
        assert extract(*given)["rows_per_layer"] == 8


def test_a_crash_after_publishing_extracts_nothing_again(service):
    register_small(service, n_classes=2)
    plan = plan_extraction(service, layers=(1,))
    for n_expected in (3, 1):  # two shards and the manifest; then the manifest, which is the same
        store = CountingStore.of(service)
        with attempt(service, job_id(plan, "extract"), store=store) as given:
            result = extract(*given)
        assert len(store.keys_put) == n_expected
        assert result["rows_per_layer"] == 8
    assert run_jobs(service, plan) == ["succeeded"] * len(plan.jobs)


def test_a_worker_that_lost_its_lease_enters_no_shard(service):
    register_small(service, n_classes=2)
    number = job_id(plan_extraction(service), "extract")
    with attempt(service, number) as (request, context):
        with transaction(service.sessions) as session:
            session.execute(update(Job).where(Job.id == number).values(fence=Job.fence + 1))
        with pytest.raises(LeaseLostError):
            extract(request, context)
    assert rows_of(service, ActivationShard) == []
    assert {row.manifest_sha256 for row in rows_of(service, ActivationSet)} == {None}


@pytest.mark.parametrize("change", ["another image", "gone"])
def test_files_that_changed_after_registration_fail_the_job_and_leave_nothing(service, tmp_path, change):
    _with_unreadable(service, tmp_path)
    plan = plan_extraction(service)
    path = tmp_path / "n02121808" / "10.png"  # in the last shard: two are stored before it is seen
    path.unlink()
    if change == "another image":
        Image.new("RGB", (70, 70), "green").save(path)
    assert run_jobs(service, plan, "extract") == ["failed"]
    error = job_row(service, job_id(plan, "extract")).error
    assert "10.png" in error
    assert "\n" not in error
    assert {job_row(service, job.id).state for job in plan.jobs} == {"failed"}
    assert rows_of(service, ActivationShard) == []
    assert list(service.store.list("activations/")) == []


@pytest.mark.parametrize("damage", ["one byte", "deleted"])
def test_a_damaged_shard_is_named_and_made_again_and_nothing_is_published_meanwhile(service, damage):
    register_small(service, n_classes=3)
    plan = plan_extraction(service, layers=(3,))
    assert run_jobs(service, plan, "extract") == ["succeeded"]
    key = rows_of(service, ActivationShard)[1].object_key
    if damage == "one byte":
        content = bytearray(service.store.get(key))
        content[-17] ^= 1
        service.store.put(key, bytes(content))  # its own checksum fits; the catalog's does not
    else:
        service.store.delete(key)
    assert run_jobs(service, plan, "train", "analyze") == ["waiting", "not queued"]
    train, analyze = (job_row(service, job_id(plan, kind)) for kind in ("train", "analyze"))
    assert key in train.error
    assert "\n" not in train.error
    assert ("damaged" if damage == "one byte" else "missing") in train.error
    assert (train.state, analyze.state) == ("waiting", "waiting")
    with transaction(service.sessions) as session:
        for table in ("sae", "analysis", "latent", "layer_score", "node_score"):
            assert session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0
    assert [key for prefix in ("saes/", "analyses/") for key in service.store.list(prefix)] == []
    assert {job["state"] for job in run_study(service, plan.study_id)} == {"succeeded"}
