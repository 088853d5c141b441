"""What every command prints for people, on jobs in every state and scores of a finished study, at every width."""

import json
import re
from dataclasses import dataclass

import click
import pytest
from tests.cli.printing.widths import WIDTHS, assert_fits
from tests.cli.states import LONG_NAME, enter_states

from hsae.catalog import Sae, transaction
from hsae.cli.main import cli
from hsae.cli.printing import output
from hsae.cli.printing.better import _ARROWS
from hsae.cli.printing.output import cell
from hsae.cli.printing.table import FittedTable

ELSEWHERE = {
    "up": "tests/embedded", "down": "tests/embedded", "demo": "tests/demo",
    "worker": "tests/cli/service/test_worker.py", "explore": "tests/explorer",
    "models show": "tests/cli/models", "metrics": "tests/monitoring", "db reader": "tests/security/test_reader.py",
}  # fmt: skip
"""Commands that print no rows and start servers, or change what all databases of a server share, or load torch."""


@dataclass(frozen=True)
class Case:
    """A command line, the words it prints, and the keys of its JSON's rows whose every value it prints."""

    arguments: str
    words: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    rows: str | None = None
    exit_code: int = 0

    def __str__(self) -> str:
        return self.arguments


CASES = [
    Case("jobs list", ("job", "again in 1 h", "1/10 (+2 outages)", "S3 is away", "NaN in layer 0", "10/40 images",
                       "needs job", "waiting"), keys=("id", "title")),
    Case("jobs list --state failed", ("NaN in layer 0",), keys=("id", "title", "error")),
    Case("jobs list --study {study_finished}", ("succeeded", "images", "vectors"), keys=("id", "title")),
    Case("jobs show {extract}", ("succeeded", "request", "layers", "result", "n_images", "history", "finished")),
    Case("jobs show {train}", ("succeeded", "needs", "extract cls of", "sae.k", "result", "fvu", "n_steps", "30")),
    Case("jobs show {analyze}", ("needs", "train ", "succeeded", "result", "share_nodes_f1", "analysis")),
    Case("jobs show {compare}", ("needs", "analyze ", "result", "n_differences", "comparison.confidence")),
    Case("jobs show {failed}", ("failed", "NaN in layer 0", "attempt      3/10", "submitted", "layers")),
    Case("jobs show {running}", ("running", "worker@host", "10/40 images", "2.0 GB at most", "attempt      2/10")),
    Case("jobs show {pausing}", ("not before", "outages      2", "S3 is away", "priority     5")),
    Case("jobs show {waiting}", ("waiting", "needs", "job {running}", "running", "extract mean")),
    Case("jobs show {stopped}", ("cancelled", "needs job {failed}, which failed", "job {failed}", "failed")),
    Case("jobs watch {study_finished}", ("{n_finished} of {n_finished} jobs done",)),
    Case("jobs watch {study_failed}", ("Error: job {failed} failed: NaN in layer 0", "jobs done"), exit_code=1),
    Case("jobs logs {extract}", ("attempt 1 of", "finished")),
    Case("jobs logs {waiting}", ("has no log", "waiting"), exit_code=1),
    Case("jobs cancel --study {study_cancel}", ("job {cancel} is cancelled",)),
    Case("jobs retry {retry}", ("queued again: job {retry}",)),
    Case("jobs retry {extract}", ("Error",), exit_code=1),
    Case("studies list", ("data set", "dinov2-emoji"), keys=("id", "name")),
    Case("studies show {study_finished}", ("relu x2", "topk x2", "Comparison: job {compare} succeeded", "FVU")),
    Case("studies show {study_failed}", ("job {failed} failed: NaN in layer 0", "needs job {failed}, which failed")),
    Case("studies remove {study_removed}", ("Removed study {study_removed}",)),
    Case("dataset list", ("small", "wordnet-3.0", "{images}"), keys=("name", "n_images", "n_classes")),
    Case("dataset check small", ("images can be read",)),
    Case("dataset add small {images}", ("Already registered: small",)),
    Case("dataset rename spare renamed", ("Renamed spare: it is renamed now.",)),
    Case("dataset remove unused", ("Removed unused", "images, which still lie in")),
    Case("sae list", ("topk SAE x2", "relu SAE x2", "FVU", "dead"), keys=("id",)),
    Case("sae list --imported", ("peer", "sparsify", "measured"), keys=("name", "kind", "source")),
    Case(
        "sae show 1", ("SAE 1", "settings", "held-out rows", "training rows", "dead share ↓", "dead on all rows",
                       "random directions"),
    ),
    Case("sae show peer", ("imported SAE peer", "origin", "sparsify", "layers.3")),
    Case("sae compare 1 2", ("setting", "figure", "mean cosine", "at random", "train FVU ↓")),
    Case("sae import {peer} --name peer", ("Already imported peer", "submit --sae-from peer --layer 3")),
    Case("sae export 1 --to {peer}-out", ("Wrote SAE 1 to", "model.safetensors", "from_pretrained")),
    Case("taxonomy show dog.n.01", ("canine.n.02", "puppy.n.01", "direct hyponyms")),
    Case("db query 'SELECT id, state, result FROM job ORDER BY id'", ("n_images", "cancelled"), keys=("id", "state")),
    Case("models list", ("dinov2_with_registers", "timm:vit_base_patch14_dinov2"), keys=("type", "library", "tokens")),
    Case("db current", ("up to date",)),
    Case("db upgrade", ("up to date",)),
    Case("db url", ("postgresql://",)),
    Case("gc --dry-run", ("Nothing to delete.",)),
    Case("doctor", ("database", "Postgres", "WordNet", "no worker answers"), exit_code=1),
    Case("completion bash", ("complete",)),
    Case("submit --spec {study_file} --dry-run", ("topk SAE x2", "reused", "0 jobs would be queued")),
    Case("submit --spec {study_file} --yes --wait", ("0 jobs queued", "{n_finished} of {n_finished} jobs done",
                                                     "coherence", "inner")),
    Case("results layers", ("topk SAE x2", "relu SAE x2", "coherence", "~tree"), keys=("layer",)),
    Case("results latents --limit 1000", ("label", "F1 ↑", "neurons", "~tree", "\n↑: more is better."),
         keys=("synset", "f1", "layer")),
    Case("results nodes --limit 1000", ("best latent", "F1 ↑", LONG_NAME, "\n↑: more is better."),
         keys=("synset", "f1", "latent", "layer")),
    Case("results edges --limit 1000", ("its label", "Means over", "adjusted ↑"),
         keys=("parent", "child", "parent_label")),
    Case("results absorption --limit 1000", ("best latent", "by chance"), keys=("synset", "latent")),
    Case("results layers --full", ("train ↓", "nodes ↑", "rarefied ↑", "↑ ↓: more, or less, is better.")),
    Case("results layers --protocol paper", ("FVU ↓", "↑ ↓: more, or less, is better.")),
    Case("results levels", ("groups", "chance", "probe ↑", "k-NN ↑", "1-NN ↑"), keys=("layer",)),
    Case("results tree entity.n.01", (LONG_NAME, "└─ ", "Best latent of every node"), keys=("synset", "f1", "latent"),
         rows="nodes"),
    Case("results compare 1 2", ("A: analysis 1", "inner", "Where", "A ↑", "B ↑"),
         keys=("group", "f1_adjusted_a", "f1_adjusted_b"), rows="groups"),
    Case("results study {study_finished} --metric all", ("topk SAE x2", "value ↑", "layer before", "monosemantic")),
    Case("results export --latest -o {output}", ("images x", "scored pairs")),
    Case("results maps -o {output}", ("no analysis that fits has relevancy maps", "--maps"), exit_code=1),
    Case("results interventions", ("No interventions fit", "--intervene FILE")),
    Case("results similar 3", ("carried by", "Of the same class", "at random", "by both searches"),
         keys=("image",), rows="images"),
    Case("results names", ("No names fit", "--name-by MODEL")),
    Case("report {study_finished} -o {output}.html", ("Report of", ".html", "Open it in a browser")),
]  # fmt: skip
SAE_NAME = "topk SAE x2 (k=4, n_steps=30)"
TABLES = {
    "jobs list": "dinov2-emoji",
    "studies list": "dinov2-emoji",
    "studies show {study_finished}": "topk x2",
    "dataset list": "small",
    "submit --spec {study_file} --dry-run": SAE_NAME,
    "results layers": "topk SAE x2",
    "results latents --node {long_name} --limit 3": LONG_NAME,
    "results nodes --node {long_name} --limit 3": LONG_NAME,
    "results tree {long_name}": LONG_NAME,
    "results edges --limit 3": "its label",
    "results absorption --limit 3": "best latent",
    "results levels": "cls",
    "dataset add small {images}": "small",
    "results compare 1 2 --under {parent} --nodes 2": "height 0",
    "results study {study_finished}": SAE_NAME,
    "sae list": "topk SAE x2",
    "sae list --imported": "peer",
    "sae compare 1 2": "coherence excess",
    "models list": "dinov2_with_registers",
    "db query 'SELECT name, wnid, definition, id, taxonomy FROM synset WHERE id = {long_id}'": LONG_NAME,
}
"""Commands that print tables, and a name which is in them."""


@pytest.fixture(scope="module")
def entered(make_service):
    """The service and the numbers of what is in it. The tests change jobs that no other test looks at."""
    service = make_service()
    return service, enter_states(service)


def words_of(line: str, facts) -> list[str]:
    """The words of a command line; what stands in quotes is one."""
    return [(a or b).format(**facts) for a, b in re.findall(r"'([^']*)'|(\S+)", line)]


def commands(group: click.Group, *above: str):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *above, name)
        else:
            yield " ".join((*above, name))


def groups(group: click.Group, *above: str):
    yield above
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from groups(command, *above, name)


def test_every_command_is_listed_here():
    listed = {name for name in commands(cli) if any(f"{case} ".startswith(f"{name} ") for case in CASES)}
    assert not listed & set(ELSEWHERE)
    assert listed | set(ELSEWHERE) == set(commands(cli)), "add what the new command prints to CASES"


@pytest.mark.parametrize("path", list(groups(cli)), ids=lambda path: " ".join(path) or "hsae-admin")
def test_a_bare_group_prints_its_help(admin, path):
    result = admin(None, *path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == admin(None, *path, "--help").stdout


@pytest.fixture
def headings(monkeypatch) -> list[tuple[str, str]]:
    """Key and heading of every column of the tables that a command makes."""
    found: list[tuple[str, str]] = []

    def made(columns, *rest, **others):
        found.extend((column.key, column.heading) for column in columns)
        return FittedTable(columns, *rest, **others)

    monkeypatch.setattr(output, "FittedTable", made)
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_a_command_prints(admin, entered, headings, case):
    service, facts = entered
    arguments = words_of(case.arguments, facts)
    result = admin(service, *arguments)
    assert result.exit_code == case.exit_code, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit | None), result.exception
    for word in case.words:
        assert word.format(**facts) in result.output, result.output
    assert "Left out" not in result.output  # nothing is, in a pipe
    for key, heading in headings:
        assert key not in _ARROWS or f" {_ARROWS[key]}" in heading, key
        assert key not in _ARROWS or "better." in result.output, key
    for row in rows_of(admin(service, *arguments, "--json").stdout, case) if case.keys else ():
        for key in case.keys:
            assert row[key] is None or cell(row[key]) in result.output or cell(row[key], 2) in result.output


def rows_of(document: str, case: Case) -> list[dict]:
    found = json.loads(document)
    return found if case.rows is None else found[case.rows]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("arguments", TABLES)
def test_no_terminal_is_too_narrow_for_a_name(admin, entered, arguments, width):
    service, facts = entered
    assert_fits(admin, service, words_of(arguments, facts), width, TABLES[arguments])


def test_settings_of_saes_are_shown_with_all_their_digits(admin, entered):
    """Rounded as scores are, two learning rates that differ would look the same."""
    service, _ = entered
    rates = {1: 0.0003, 2: 0.00045}
    with transaction(service.sessions) as session:
        configs = {number: dict(session.get_one(Sae, number).config) for number in rates}
        for number, rate in rates.items():
            session.get_one(Sae, number).config = configs[number] | {"learning_rate": rate}
    compared = printed(admin(service, "sae", "compare", 1, 2))
    shown = {number: printed(admin(service, "sae", "show", number)) for number in rates}
    with transaction(service.sessions) as session:
        for number, config in configs.items():
            session.get_one(Sae, number).config = config
    assert "learning_rate 0.0003 0.00045" in compared
    for number, rate in rates.items():
        assert f"learning_rate {rate}" in shown[number]


def printed(result) -> list[str]:
    """Its lines, columns one space apart."""
    assert result.exit_code == 0, result.output
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def test_latents_that_say_the_same_share_a_row(admin, entered):
    service, _ = entered
    every = json.loads(admin(service, "results", "latents", "--limit", 100000, "--json").stdout)
    said = ("analysis_id", "synset", "f1", "f1_baseline", "f1_neuron", "f1_shuffled_taxonomy", "precision", "recall",
            "auroc", "coherence_excess", "lch", "lch_excess", "n_fire")  # fmt: skip
    equal: dict[tuple, list[int]] = {}
    for row in every:
        equal.setdefault(tuple(row[name] for name in said), []).append(row["latent"])
    assert len(equal) < len(every)
    expected = [f"{group[0]} +{len(group) - 1}" if len(group) > 1 else str(group[0]) for group in equal.values()]
    assert latents_of(admin(service, "results", "latents", "--limit", 100000).stdout) == expected
    for limit in (1, 2, 7, len(expected) - 1):  # rows, whatever they stand for
        printed = admin(service, "results", "latents", "--limit", limit).stdout
        assert latents_of(printed) == expected[:limit]
        assert ("further latents" in printed) is any("+" in latent for latent in expected[:limit])


def latents_of(printed: str) -> list[str]:
    """What stands in the column of latents."""
    _, heading, *lines = printed.split("\n\n")[0].splitlines()  # below a title: in-sample
    start, end = heading.index("SAE   ") + len("SAE   "), heading.index("latent") + len("latent")
    return [line[start:end].strip() for line in lines]
