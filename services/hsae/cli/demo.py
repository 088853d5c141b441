"""hsae-admin demo: the whole pipeline on bundled images and weights, offline."""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import click
import platformdirs

from hsae.backbones.names import short_model_name
from hsae.catalog import transaction
from hsae.catalog.findings.controls import CONTROLS
from hsae.catalog.findings.scores import node_rows
from hsae.catalog.queries.known_names import study_analyses, synset_ids
from hsae.catalog.queries.score_filter import LatentFilter
from hsae.cli.datasets.registration import add_dataset
from hsae.cli.framework.connections import Connections, home_option, pass_connections
from hsae.cli.jobs.progress import wait_for_study
from hsae.cli.printing.analysis_names import name_saes
from hsae.cli.printing.output import console, table
from hsae.cli.printing.plan_table import print_plan
from hsae.cli.results.layers import fetch_layers, print_layer_rows
from hsae.cli.service.stack import bring_up
from hsae.demo import DATASET_NAME, backbone_folder, images_listing
from hsae.embedded import Stack
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.planning.requests import SubmitRequest
from hsae.pipeline.planning.submit import submit
from hsae.sae.config import SaeConfig
from hsae.split_config import NamedGroups, SplitConfig

_ABOUT = """
The SAEs were trained on three drawing styles of one design, latents and thresholds chosen on Noto's drawings, and
every number is of the style fxemoji, which neither they nor the backbone have seen. The backbone was trained to name
these classes on the other styles, as an unordered list without any taxonomy: that classes can be told apart is no
finding."""
NODES = ("animal.n.01", "bird.n.01", "food.n.01", "food.n.02", "vehicle.n.01")
_SQL = (
    "SELECT i.layer, i.sae_kind, v.basis, round(v.value::numeric, 2) AS bits, round(v.low::numeric, 2) AS low,"
    " round(v.high::numeric, 2) AS high FROM layer_interval v JOIN analysis_input i USING (analysis_id)"
    " WHERE v.metric = 'coherence_excess' AND v.seed = 0 ORDER BY i.sae_kind, v.basis, i.layer",
    "SELECT layer, sae_kind, synset, latent, round(f1::numeric, 2) AS f1, q_node FROM node_best_latent"
    " WHERE basis = 'sae' AND height >= 2 ORDER BY f1 DESC LIMIT 10",
)


def demo_home() -> Path:
    """The demo's home folder, unless --home or HSAE_HOME names another one."""
    return Path(platformdirs.user_data_dir("hsae-demo", appauthor=False))


@click.command()
@home_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-results"),
    show_default=True,
    help="Folder for the picture.",
)
@click.option(
    "--layer",
    "layers",
    type=click.IntRange(0, 5),
    multiple=True,
    help="Only this layer; may be given several times.  [default: all six]",
)
@click.option("--stop", is_flag=True, help="Stop the stack at the end instead of leaving it for queries.")
@pass_connections
def demo(connections: Connections, output: Path, layers: tuple[int, ...], stop: bool) -> None:
    """Run everything on bundled images and weights, offline: a private stack, a worker, all layers, both SAE kinds.

    Running it again reuses every artifact.
    """
    if connections.home is None and "HSAE_HOME" not in os.environ:
        connections.home = demo_home()
    click.echo("Starting a private Postgres, Valkey, SeaweedFS and one worker ...")
    bring_up(connections)
    home = connections.settings.home
    try:
        _run(connections, output, request(layers))
    finally:
        if stop:
            Stack(home).stop()
    again = f"{_program()} --home {home}"
    click.echo(f"Everything is in {home}. Try some SQL, or open it with psql (`{again} db url`):")
    for query in _SQL:
        click.echo(f'  {again} db query "{query}"')
    click.echo(f"  {again} results tree animal.n.01")
    click.echo(f"  {again} results nodes --under animal.n.01")
    if stop:
        click.echo(f"The stack is stopped; `{again} up` starts it again.")
    else:
        click.echo(f"The stack still runs (loopback only); stop it with `{again} down`.")


def _program() -> str:
    """The command to type for hsae-admin here: its path if the shell would not find it (as after `make demo`)."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "hsae-admin" and shutil.which("hsae-admin") is None else "hsae-admin"


def request(layers: tuple[int, ...] = ()) -> SubmitRequest:
    """The demo's request: these layers of the bundled backbone (default: all), and both kinds of SAE."""
    return SubmitRequest(
        model=str(backbone_folder()),
        dataset=DATASET_NAME,
        layers=tuple(sorted(set(layers))) or "all",
        # Few images: an augmented view of each as a further training row, and a short training, keep it to minutes.
        saes=(
            SaeConfig(kind="relu", l1_coefficient=0.3, n_steps=500),
            SaeConfig(kind="topk", k=16, n_steps=500),
        ),
        extraction=ExtractionConfig(n_views=2),
        # Three styles are renderings of one design, so they train; no image of the scored style trained the backbone.
        split=SplitConfig(groups=NamedGroups(select=("noto",), score=("fxemoji",))),
    )


def _run(connections: Connections, output: Path, wanted: SubmitRequest) -> None:
    # matplotlib takes half a second to load: only the picture at the end needs it.
    from hsae.report.figure import layer_figure

    dataset = add_dataset(connections, DATASET_NAME, images_listing()).dataset
    click.echo(f"Images: {dataset.n_images} emoji of {dataset.n_classes} synsets, {dataset.n_nodes} taxonomy nodes.")
    plan = submit(wanted, connections.settings, connections.sessions)
    connections.notifier.notify(plan.to_notify)
    print_plan(plan)
    wait_for_study(connections, plan.study_id)
    click.echo()
    rows = fetch_layers(connections, study=plan.study_id)
    print_layer_rows(rows)
    click.echo(_ABOUT)
    click.echo()
    _print_nodes(connections, plan.study_id)
    picture = output / "layers.png"
    layer_figure(
        rows,
        f"{short_model_name(plan.model.name)} on {dataset.name}: what each layer's latents know of WordNet",
        picture,
    )
    click.echo(f"\nPicture: {picture}")


def _print_nodes(connections: Connections, study_id: int) -> None:
    """Print the best latent of some nodes over all layers and SAEs, beside the best of the controls."""
    best: dict[str, dict[str, dict[str, object]]] = {}
    with transaction(connections.sessions) as session:
        wanted = LatentFilter(
            analysis_ids=tuple(study_analyses(session, study_id)), nodes=tuple(synset_ids(session, NODES)), min_f1=0.0
        )
        for basis in ("sae", *CONTROLS):
            rows = node_rows(session, replace(wanted, basis=basis))
            name_saes(session, rows)
            for row in rows:  # by falling F1: the first of a node is its best
                best.setdefault(row["synset"], {}).setdefault(basis, row)
    columns = {
        "synset": "node", "n_classes": "classes", "n_images": "images", "sae": "SAE", "layer": "layer",
        "latent": "latent", "f1": "F1", "precision": "precision", "recall": "recall", "auroc": "AUROC",
        "f1_neuron": "best neuron F1", "f1_shuffled_taxonomy": "shuffled tree F1",
    }  # fmt: skip
    shown = [
        best[node]["sae"] | {f"f1_{control}": best[node].get(control, {}).get("f1") for control in CONTROLS}
        for node in NODES
        if "sae" in best.get(node, {})
    ]
    console().print(table(shown, columns, title="Best latent of some nodes", importance=("synset", "f1", "latent")))
