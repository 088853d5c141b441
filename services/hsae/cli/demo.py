"""hsae-admin demo: the whole pipeline on bundled images and weights, offline."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import platformdirs

from hsae.backbones.names import short_model_name
from hsae.catalog import transaction
from hsae.catalog.findings.interventions.beside_random import edits_beside_random
from hsae.catalog.findings.scores import node_rows
from hsae.catalog.findings.study_intervals import comparison_trends, find_comparison
from hsae.catalog.queries.conditions import Row
from hsae.catalog.queries.known_names import synset_ids
from hsae.catalog.queries.score_filter import LatentFilter
from hsae.cli.framework.connections import Connections, home_option, pass_connections
from hsae.cli.jobs.progress import wait_for_study
from hsae.cli.printing.better import marked, print_legend
from hsae.cli.printing.output import console, table
from hsae.cli.printing.plan_table import print_plan
from hsae.cli.results.filters import CONTROL_COLUMNS
from hsae.cli.results.layers import fetch_layers, print_layer_rows
from hsae.cli.service.stack import bring_up
from hsae.demo import DATASET_NAME, backbone_folder, images_listing
from hsae.embedded import Stack
from hsae.extraction.config import ExtractionConfig
from hsae.interventions.config import InterveneSettings
from hsae.pipeline.exports.study_report import write_report
from hsae.pipeline.planning.requests import SubmitRequest
from hsae.pipeline.planning.submit import Plan, submit
from hsae.pipeline.submission.registration import add_dataset
from hsae.relevancy.config import MapSettings
from hsae.report.headline_table import COHERENCE
from hsae.report.interval_table import interval, verdict
from hsae.sae.config import SaeConfig
from hsae.split_config import NamedGroups, SplitConfig

_ABOUT = """
The SAEs were trained on three drawing styles of one design, latents and thresholds chosen on Noto's drawings, and
every number is of the style fxemoji, which neither they nor the backbone have seen. The backbone was trained to name
these classes on the other styles, as an unordered list without any taxonomy: that classes can be told apart is no
finding."""
_NODES_OF = "topk"
NODES = ("animal.n.01", "bird.n.01", "food.n.01", "food.n.02", "vehicle.n.01")
EDITED = ("vehicle.n.01", "bird.n.01")
"""Nodes whose latents are taken away."""
_READOUT = "probe"
_SQL = (
    "SELECT i.layer, i.sae_kind, v.basis, round(v.value::numeric, 2) AS bits, round(v.low::numeric, 2) AS low,"
    " round(v.high::numeric, 2) AS high FROM layer_interval v JOIN analysis_input i USING (analysis_id)"
    " WHERE v.metric = 'coherence_excess' AND v.seed = 0 ORDER BY i.sae_kind, v.basis, i.layer",
    "SELECT layer, sae_kind, synset, latent, round(f1_adjusted::numeric, 2) AS f1_adjusted, q_node"
    " FROM node_best_latent WHERE basis = 'sae' AND height >= 2 AND is_distinct ORDER BY q_node LIMIT 10",
    "SELECT i.layer, y.name AS node, v.arm, count(*) AS draws, round(avg(v.specificity)::numeric, 2) AS specificity,"
    " round(avg(v.specificity_low)::numeric, 2) AS low, round(avg(v.specificity_high)::numeric, 2) AS high"
    " FROM intervention v JOIN intervention_set s ON s.id = v.intervention_set_id JOIN analysis_input i"
    " USING (analysis_id) JOIN synset y ON y.id = v.synset_id WHERE v.readout = 'probe' GROUP BY 1, 2, 3"
    " ORDER BY 1, 2, 3",
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
    help="Folder for the picture and the report.",
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
    click.echo("Starting a private Postgres, Valkey, SeaweedFS and workers ...")
    bring_up(connections)
    home = connections.settings.home
    try:
        report, lost = _run(connections, output, request(layers))
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
    for sentence in lost:
        click.echo(sentence)
    click.echo(
        f"All edits and controls: `{again} results interventions`, and docs/interventions.md says how to read them."
    )
    click.echo(f"Report: {report} (open it in a browser)")


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
            SaeConfig(kind="relu", target_l0=16, n_steps=500),
            SaeConfig(kind="topk", k=16, n_steps=500),
        ),
        extraction=ExtractionConfig(n_views=2),
        # Three styles are renderings of one design, so they train; no image of the scored style trained the backbone.
        split=SplitConfig(groups=NamedGroups(select=("noto",), score=("fxemoji",))),
        own={"map": MapSettings(latents=8)},  # of more, maps would take more than a few seconds a layer
    )


def edits_request(wanted: SubmitRequest, layers: Sequence[int]) -> SubmitRequest:
    """The request that takes latents away, in the SAE and block that the table of nodes has fixed beforehand.

    It is a small study of its own, since what is asked of `intervene` counts for all SAEs of a study. Its analysis is
    that of the large one, so the report of that study has the edits. In the last block the pass starts at stored class
    tokens; from another one all images would run through the backbone again.

    Args:
        wanted: the demo's request.
        layers: its blocks.
    """
    edits = InterveneSettings(nodes=EDITED, choose="selectivity", n_latents=64, label_effects=20)
    changes = {
        "name": f"edits in block {max(layers)}",
        "layers": (max(layers),),
        "saes": tuple(sae for sae in wanted.saes if sae.kind == _NODES_OF),
        "own": {"intervene": edits},
    }
    return wanted.model_copy(update=changes)


def _submitted(connections: Connections, wanted: SubmitRequest) -> Plan:
    plan = submit(wanted, connections.settings, connections.sessions)
    connections.notifier.notify(plan.to_notify)
    return plan


def _run(connections: Connections, output: Path, wanted: SubmitRequest) -> tuple[Path, list[str]]:
    """Run the demo and print its tables; returns its report, and sentences on what edits took away."""
    # matplotlib takes half a second to load: only the end needs it.
    from hsae.report.figure import layer_figure

    dataset = add_dataset(connections, DATASET_NAME, images_listing()).dataset
    click.echo(f"Images: {dataset.n_images} emoji of {dataset.n_classes} synsets, {dataset.n_nodes} taxonomy nodes.")
    plan = _submitted(connections, wanted)
    print_plan(plan)
    edits = _submitted(connections, edits_request(wanted, plan.layers))
    _submitted(connections, wanted)  # again: commands without --study take the latest, which is to be the large one
    wait_for_study(connections, plan.study_id)
    wait_for_study(connections, edits.study_id)
    click.echo()
    rows = fetch_layers(connections, study=plan.study_id)
    print_layer_rows(rows)
    click.echo()
    _print_trends(connections, plan.study_id)
    click.echo(_ABOUT)
    click.echo()
    _print_nodes(connections, rows)
    picture = output / "layers.png"
    layer_figure(
        rows,
        f"{short_model_name(plan.model.name)} on {dataset.name}: what each layer's latents know of WordNet"
        " (held out: the style fxemoji)",
        picture,
    )
    click.echo(f"\nPicture: {picture}")
    report = output / "report.html"
    write_report(plan.study_id, report, connections.sessions, connections.store)
    return report, _lost(connections, edits.study_id)


def _print_trends(connections: Connections, study_id: int) -> None:
    """Print for every SAE whether its coherence excess rises with depth, as `results study` has it."""
    with transaction(connections.sessions) as session:
        comparison = find_comparison(session, study_id)
        trends = comparison_trends(session, comparison["id"])
    confidence = comparison["config"]["confidence"]
    for row in trends:
        if row["metric"] == COHERENCE and row["ci_low"] is not None:
            click.echo(
                f"{SaeConfig.parse(row['sae']).kind} SAE: coherence excess {row['slope']:+.3f} bits per block,"
                f" {confidence:.0%} interval {interval(row)}; rises with depth? {verdict(row)}"
            )


def _print_nodes(connections: Connections, rows: list[dict[str, Any]]) -> None:
    """Print the best latent of some nodes, beside the controls, of one analysis that is fixed beforehand.

    To take the best of all analyses would choose a layer and a kind of SAE by the very scores that are shown.

    Args:
        connections: the service.
        rows: of `fetch_layers`.
    """
    of_kind = {row["layer"]: row["analysis_id"] for row in rows if row["sae_kind"] == _NODES_OF}
    if not of_kind:
        return
    layer = max(of_kind)
    with transaction(connections.sessions) as session:
        wanted = LatentFilter(analysis_ids=(of_kind[layer],), nodes=tuple(synset_ids(session, NODES)), basis="sae")
        best = {row["synset"]: row for row in node_rows(session, wanted)}
    columns = {
        "synset": "node", "n_classes": "classes", "n_images": "images", "latent": "latent",
        "f1_adjusted": "adjusted F1", "q_node": "q", "f1": "F1", **CONTROL_COLUMNS, "precision": "precision",
        "recall": "recall", "auroc": "AUROC",
    }  # fmt: skip
    title = (
        f"Best latents of some nodes in the {_NODES_OF} SAE of block {layer}"
        " (SAE and block fixed beforehand, latents chosen on Noto's drawings)"
    )
    shown = [best[node] for node in NODES if node in best]
    importance = ("synset", "f1_adjusted", "q_node", "latent")
    console().print(table(shown, marked(columns), title=title, importance=importance))
    print_legend(columns)


def _lost(connections: Connections, study_id: int) -> list[str]:
    """A sentence for each of the edited nodes."""
    with transaction(connections.sessions) as session:
        return [lost_sentence(row) for row in edits_beside_random(session, study_id, _READOUT)]


def lost_sentence(edit: Row) -> str:
    """What the loss of a node's latents did to the probe, beside as many random latents.

    Args:
        edit: a row of `edits_beside_random`.
    """
    inside, outside = (
        f"{edit[f'accuracy_{where}_before']:.2f} to {edit[f'accuracy_{where}_after']:.2f}"
        for where in ("inside", "outside")
    )
    own, random = (
        f"{edit[name]:.2f} [{edit[f'{name}_low']:.2f}, {edit[f'{name}_high']:.2f}]"
        for name in ("specificity", "random")
    )
    return (
        f"Without {edit['n_latents']} latents of {edit['target']} in block {edit['layer']} ({edit['sae_kind']} SAE) the"
        f" accuracy of a probe goes from {inside} on its images and from {outside} on all others: {own} more on its own"
        f" (95% interval); as many random latents cost {random} more; above 0?"
        f" {'yes' if edit['specificity_low'] > 0 else 'not shown'}"
    )
