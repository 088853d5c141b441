"""An SAE of another program, from its files to scores: registered, measured, listed, compared, written again."""

import json
from datetime import timedelta

import pytest
import torch
from click.testing import CliRunner
from sqlalchemy import select, text
from tests.pipeline.default_plan import default_kinds
from tests.pipeline.in_process import TINY_SAE, attempt, job_id, run_jobs, run_study
from tests.sae.exchange.peer_files import write
from tests.small import bare_scoring, register_small, small_request

from hsae.catalog import ImportedSae, Sae, transaction
from hsae.cli.main import cli
from hsae.errors import UserError
from hsae.pipeline.connections import Connections
from hsae.pipeline.execution.run import run_job
from hsae.pipeline.planning.submit import submit
from hsae.pipeline.stages.imports.import_sae import import_sae
from hsae.pipeline.submission.imported_saes import read_checked, register_sae, with_imported
from hsae.pipeline.upkeep.garbage import collect, find_garbage
from hsae.pipeline.upkeep.integrity import find_lost, named_objects
from hsae.sae.exchange.place import SaePlace
from hsae.sae.model import SparseAutoencoder
from hsae.store.keys import imported_key, weights_key

D_MODEL, N_LATENTS, K = 192, 500, 6  # no multiple of the width


def write_peer(
    folder,
    *,
    seed: int = 0,
    d_model: int = D_MODEL,
    hook_name: str | None = "blocks.3.hook_resid_post",
    model: str | None = None,
):
    """A TopK SAE in the files of SAELens."""
    generator = torch.Generator().manual_seed(seed)
    decoder = torch.randn(N_LATENTS, d_model, generator=generator)
    decoder /= decoder.norm(dim=1, keepdim=True)
    tensors = {
        "W_enc": decoder.T, "b_enc": torch.zeros(N_LATENTS), "W_dec": decoder, "b_dec": torch.zeros(d_model),
    }  # fmt: skip
    config = {
        "architecture": "topk", "d_in": d_model, "d_sae": N_LATENTS, "k": K, "normalize_activations": "none",
        "metadata": {"hook_name": hook_name, **({} if model is None else {"model_name": model})},
    }  # fmt: skip
    return write(folder, config, tensors)


@pytest.fixture
def connections(service, monkeypatch):
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    register_small(service, n_classes=6)
    return Connections()


@pytest.fixture
def admin(connections):
    def run(*arguments, code: int = 0):
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return result

    return run


def registered(connections, folder, name="peer"):
    config, _ = register_sae(connections, read_checked(SaePlace(str(folder)), name=name, layer=None), str(folder))
    return config


def submitted(service, config, **changes):
    request = small_request(layers=(3,), saes=(config,), scoring=bare_scoring(), **changes)
    return submit(request, service.settings, service.sessions)


@pytest.mark.slow
def test_from_the_files_to_scores_beside_one_of_ours(service, admin, tmp_path):
    folder = write_peer(tmp_path / "peer")
    output = admin("sae", "import", folder).output
    assert "Imported peer: topk SAE of 500 latents, d_model 192, of layer 3 (saelens)" in output
    assert "Already imported peer" in admin("sae", "import", folder).output
    assert "peer" in admin("sae", "list", "--imported").output

    shown = admin("submit", "--sae-from", "peer", "--layer", 3, "--model", small_request().model, "--split", "none",
                  "--embeddings", "own", "--sae", "topk", "--k", 4, "--expansion", 2, "--steps", 30)  # fmt: skip
    assert "import topk SAE of 500 latents (imported peer, k=6)" in shown.output
    jobs = run_study(service, 1)
    assert {job["kind"] for job in jobs} == {*default_kinds(), "import"}
    assert {job["state"] for job in jobs} == {"succeeded"}

    with transaction(service.sessions) as session:
        ours, theirs = session.scalars(select(Sae).order_by(Sae.n_latents)).all()
    if ours.n_latents == N_LATENTS:
        ours, theirs = theirs, ours
    assert (theirs.n_latents, theirs.n_steps, theirs.kind) == (N_LATENTS, 0, "topk")
    assert theirs.config["imported"]["name"] == "peer"
    assert theirs.config["k"] == K
    assert None not in (theirs.fvu, theirs.l0, theirs.train_fvu, theirs.train_l0, theirs.dead_share)
    assert theirs.l0 == pytest.approx(K)
    assert theirs.l0_quantiles == [K] * 5
    assert theirs.decoder_coherence == theirs.metrics["evaluation"]["decoder"]["mean"] > 0
    assert theirs.class_accuracy == ours.class_accuracy  # the same images, held out in the same way
    assert theirs.metrics["n_holdout_rows"] == ours.metrics["n_holdout_rows"]
    weights = service.store.get(weights_key(theirs.key, theirs.weights_sha256), sha256=theirs.weights_sha256)
    assert weights

    listing = json.loads(admin("sae", "list", "--json").output)
    assert [row["imported"] for row in listing if row["id"] == theirs.id] == ["peer"]
    page = admin("sae", "show", theirs.id).output
    assert "imported peer" in page
    assert "saelens" in page
    assert "held-out rows" in page
    assert f"coherence of the decoder: {theirs.decoder_coherence:.3f} (random directions " in page
    assert "has no curve" in admin("sae", "show", theirs.id, "--plot", tmp_path / "no.svg", code=1).output
    admin("sae", "show", ours.id, "--plot", tmp_path / "curve.svg")
    assert (tmp_path / "curve.svg").stat().st_size > 1_000
    compared = json.loads(admin("sae", "compare", ours.id, theirs.id, "--json").output)
    assert {row["setting"] for row in compared["settings"]} >= {"imported", "k"}
    assert {(row["sae"], row["other"]) for row in compared["directions"]} == {
        (ours.id, theirs.id), (theirs.id, ours.id)
    }  # fmt: skip
    assert {row["id"] for row in compared["figures"]} == {ours.id, theirs.id}
    assert "coherence excess" in admin("sae", "compare", ours.id, theirs.id).output

    admin("sae", "export", theirs.id, "--format", "saelens", "--to", tmp_path / "out")
    first = SparseAutoencoder.from_pretrained(folder)
    again = SparseAutoencoder.from_pretrained(tmp_path / "out")
    assert again.config.imported.key == first.config.imported.key
    admin("sae", "export", ours.id, "--to", tmp_path / "ours")
    assert SparseAutoencoder.from_pretrained(tmp_path / "ours").config.model_dump()["k"] == 4
    admin("sae", "export", "peer", "--to", tmp_path / "named")

    assert "imported peer" in admin("results", "layers").output
    assert "imported peer" in admin("studies", "show").output
    admin("results", "study", "--json")
    admin("report", "1", "--output", tmp_path / "report.html")
    assert "imported peer" in (tmp_path / "report.html").read_text()


def test_a_path_is_registered_by_the_submit_and_a_dry_run_registers_nothing(service, admin, connections, tmp_path):
    folder = write_peer(tmp_path / "mine", model="facebook/dinov2-base")
    options = ("--layer", 3, "--model", small_request().model, "--split", "none", "--embeddings", "own")
    dry = admin("submit", "--sae-from", folder, *options, "--dry-run").output
    assert "import" in dry
    assert "Note: the imported SAE mine was trained on facebook/dinov2-base, as its files say, and is applied to" in dry
    with transaction(service.sessions) as session:
        assert session.scalars(select(ImportedSae)).all() == []
    admin("submit", "--sae-from", folder, *options)
    with transaction(service.sessions) as session:
        (row,) = session.scalars(select(ImportedSae)).all()
        kinds = set(session.scalars(text("SELECT kind FROM job")).all())
    assert (row.name, row.source) == ("mine", str(folder))
    assert "train" not in kinds
    plan = json.loads(admin("submit", "--sae-from", "mine", *options, "--json").stdout)
    assert {job["status"] for job in plan["jobs"]} == {"joined"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--sae-from", "mine", "--layer", 2), "was trained on layer 3, and layer 2 is asked for"),
        (("--sae-from", "mine", "--layers", "all"), "was trained on layer 3, and"),
        (("--sae-from", "nowhere", "--layer", 3), "there is no imported SAE nowhere"),
        (("--sae-from", "./nowhere", "--layer", 3), "there is no folder or file ./nowhere"),
        (("--sae-from", "mine", "--layer", 3, "--k", 4), "is a setting of a training"),
        (("--sae-from", "wide", "--layer", 3), "takes activations of 100 dimensions, and these have 192"),
        (("--sae-from", "loose", "--layers", "1,2"), "is of one layer"),
        (
            ("--sae-from", "mine", "--layer", 3, "--hook", "mlp"),
            "residual, and mlp is asked for: give --hook residual",
        ),
        (("--sae-from", "loose", "--layer", 3, "--hook", "mlp"), "names no place, so it is of the residual stream"),
    ],
)
def test_what_does_not_fit_is_refused_and_enters_nothing(service, admin, connections, tmp_path, arguments, expected):
    registered(connections, write_peer(tmp_path / "mine"), "mine")
    registered(connections, write_peer(tmp_path / "wide", d_model=100), "wide")
    registered(connections, write_peer(tmp_path / "loose", seed=2, hook_name=None), "loose")
    refused = admin("submit", *arguments, "--model", small_request().model, code=1)
    assert expected in refused.stderr
    assert refused.stderr.count("\n") == 1
    with transaction(service.sessions) as session:
        assert session.scalars(text("SELECT count(*) FROM job")).one() == 0


def test_a_name_that_is_also_another_sae_here_is_asked_about(service, admin, connections, tmp_path, monkeypatch):
    """Not silently the registered one: results of the wrong SAE look like any others."""
    source = write_peer(tmp_path / "there" / "peer", hook_name=None)
    here = tmp_path / "here"
    (here / "peer").mkdir(parents=True)
    monkeypatch.chdir(source.parent)
    admin("sae", "import", "peer/", "--layer", 3)
    with transaction(service.sessions) as session:
        assert session.scalars(select(ImportedSae.source)).one() == str(source)
    options = ("--layer", 3, "--model", small_request().model, "--split", "none", "--embeddings", "own", "--dry-run")
    admin("submit", "--sae-from", "peer", *options)  # the very folder it was read from
    monkeypatch.chdir(here)
    admin("submit", "--sae-from", "peer", *options)  # the folder of that name has no SAE
    write_peer(here / "peer", seed=7, hook_name=None)
    refused = admin("submit", "--sae-from", "peer", *options, code=1).stderr
    assert refused.startswith("Error: --sae-from peer is ambiguous: ")
    for words in (str(source), str(here / "peer"), "`hsae-admin sae import ./peer --name NEW`"):
        assert words in refused
    assert refused.count("\n") == 1
    admin("sae", "import", "./peer", "--name", "new", "--layer", 3)  # what the message proposes
    admin("submit", "--sae-from", "new", *options)


def test_names_are_of_one_sae_each(connections, tmp_path):
    folder = write_peer(tmp_path / "a")
    registered(connections, folder, "a")
    with pytest.raises(UserError, match="is registered as a: use that name"):
        registered(connections, folder, "b")
    with pytest.raises(UserError, match="the name a belongs to another imported SAE"):
        registered(connections, write_peer(tmp_path / "c", seed=5), "a")
    with pytest.raises(UserError, match="would be taken for a path: .* give it with --name"):
        read_checked(SaePlace(str(folder)), name="x/y", layer=None)


def test_the_same_sae_by_another_name_is_the_same_artifact(service, connections, tmp_path):
    config = registered(connections, write_peer(tmp_path / "a"))
    origin = config.imported.model_copy(update={"name": "other", "notes": ("n",)})
    plan = submitted(service, config)
    again = submitted(service, config.model_copy(update={"imported": origin}))
    assert {job.key for job in plan.jobs if job.kind == "import"} == {
        job.key for job in again.jobs if job.kind == "import"
    }


def test_an_attempt_that_ends_early_leaves_nothing_and_the_next_gives_the_same_bits(service, connections, tmp_path):
    plan = submitted(service, registered(connections, write_peer(tmp_path / "a")))
    run_jobs(service, plan, "extract")
    stopped = pytest.raises(OSError, match="stopped by the test")
    with stopped, attempt(service, job_id(plan, "import"), stop_at=1) as (request, context):
        import_sae(request, context)
    with transaction(service.sessions) as session:
        assert session.scalars(select(Sae)).all() == []
    assert run_job(job_id(plan, "import"), service.settings, "test") == "succeeded"
    with transaction(service.sessions) as session:
        (sae,) = session.scalars(select(Sae)).all()
    service.store.delete(weights_key(sae.key, sae.weights_sha256))
    with transaction(service.sessions) as session:
        session.execute(text("UPDATE job SET state = 'queued', finished_at = NULL WHERE kind = 'import'"))
    assert run_job(job_id(plan, "import"), service.settings, "test") == "succeeded"
    service.store.check(weights_key(sae.key, sae.weights_sha256), sha256=sae.weights_sha256)


def test_lost_files_of_a_registered_sae_need_a_new_import(service, connections, tmp_path):
    folder = write_peer(tmp_path / "a")
    config = registered(connections, folder)
    plan = submitted(service, config)
    run_jobs(service, plan, "extract")
    with transaction(service.sessions) as session:
        (row,) = session.scalars(select(ImportedSae)).all()
    lost = imported_key(row.key, row.weights_sha256)
    service.store.delete(lost)
    with transaction(service.sessions) as session:
        named = named_objects(session)
    assert [each.object.what for each in find_lost(service.store, named)] == ["imported SAE peer"]
    assert run_job(job_id(plan, "import"), service.settings, "test") == "failed"
    with transaction(service.sessions) as session:
        (error,) = session.scalars(text("SELECT error FROM job WHERE kind = 'import'")).all()
    assert "import its files again with `hsae-admin sae import PATH --name peer`" in error
    registered(connections, folder)
    service.store.check(lost, sha256=row.weights_sha256)


def test_gc_keeps_what_a_row_names(service, connections, tmp_path):
    registered(connections, write_peer(tmp_path / "a"))
    with transaction(service.sessions) as session:
        (row,) = session.scalars(select(ImportedSae)).all()
    stray = imported_key("0" * 64, "1" * 64)
    service.store.put(stray, b"x")
    found = list(find_garbage(service.sessions, service.store, min_age=timedelta(0)))
    assert [listed.key for garbage in found for listed in garbage.objects] == [stray]
    collect(service.sessions, service.store, found, min_age=timedelta(0))
    service.store.check(imported_key(row.key, row.weights_sha256), sha256=row.weights_sha256)


def test_several_seeds_are_of_those_that_are_trained(service, connections, tmp_path):
    registered(connections, write_peer(tmp_path / "a"))
    request = small_request(layers=(3,), saes=(TINY_SAE,), scoring=bare_scoring(), sae_from=("peer",))
    resolved, unregistered = with_imported(connections, request)
    assert unregistered == []
    assert [sae.imported is not None for sae in resolved.saes] == [False, True]
    assert resolved.sae_from == ()
