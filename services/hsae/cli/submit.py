"""hsae-admin submit: from a request for layers to jobs."""

import sys
from pathlib import Path
from typing import Any, get_args

import click
from click.core import ParameterSource

from hsae.cli.framework.completion import complete_datasets
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.extraction_options import extraction_options, keeping_options
from hsae.cli.framework.json_option import json_option
from hsae.cli.framework.sae_options import SAE_KIND, kind_options
from hsae.errors import UserError
from hsae.hierarchy.config import ScoringConfig
from hsae.relevancy.config import MAX_LATENTS
from hsae.sae.config import Rows, SaeConfig
from hsae.sae.variants import DEFAULT_KIND
from hsae.split_config import SplitConfig

_SCORING = ScoringConfig()
_SAE = SaeConfig.defaults()


@click.command()
@click.option("--layer", "layer", type=int, multiple=True, help="0-based layer; may be given several times.")
@click.option("--layers", help="Layers as a list of numbers and ranges (0-3,8), or `all`.")
@click.option(
    "--model",
    help="Backbone: hub id or local folder, timm:NAME or open_clip:NAME/PRETRAINED.  [default: HSAE_MODEL,"
    " facebook/dinov2-base]",
)
@click.option("--revision", help="Branch, tag or commit of a hub model.")
@click.option(
    "--random-init",
    type=int,
    metavar="SEED",
    help="The same architecture with random weights drawn from SEED, as a baseline: a model of its own, without a"
    " weights file.",
)
@click.option(
    "--dataset",
    help="Registered data set by its name, or a folder or CSV by its path (./train).  [default: the first registered]",
    shell_complete=complete_datasets,
)
@click.option(
    "--score-dataset",
    help="Another data set of the same taxonomy, by its name or path, to select and score on; then all images of"
    " --dataset train.",
    shell_complete=complete_datasets,
)
@extraction_options
@click.option(
    "--sae",
    "kinds",
    type=SAE_KIND,
    multiple=True,
    default=[DEFAULT_KIND],
    show_default=True,
    help="SAE kind; may be given several times.",
)
@click.option(
    "--sae-from",
    "sae_from",
    multiple=True,
    metavar="NAME|PATH",
    help="An SAE of another program, analysed like our own: a name of `sae list`, or a folder, file or hub repository;"
    " may be given several times. Without --sae nothing is trained.",
)
@click.option("--expansion", type=int, help=f"Expansion factor n_latents / d_model.  [default: {_SAE['expansion']}]")
@kind_options
@click.option("--steps", "n_steps", type=int, help="Training steps.  [default: from the number of rows]")
@click.option("--batch-size", type=int, help="Rows per training step.  [default: from the number of rows]")
@click.option("--learning-rate", type=float, help="Peak learning rate.")
@click.option(
    "--rows",
    type=click.Choice(get_args(Rows)),
    help=f"Whether a training holds all activations, or reads them while it trains.  [default: {_SAE['rows']}]",
)
@click.option(
    "--seed", type=int, default=_SAE["seed"], show_default=True, help="Seed of the SAE and of the augmented views."
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="SAEs per configuration, with --seed, the next seed, and so on: for intervals over seeds, and the stability"
    " of latents.",
)
@click.option(
    "--threshold",
    type=float,
    default=_SCORING.threshold,
    show_default=True,
    help="A latent fires above this activation.",
)
@click.option(
    "--embeddings",
    default=_SCORING.embeddings,
    show_default=True,
    help="What monosemanticity compares images by: class token of the last layer (last), the analysed layer (own), or"
    " an activation set of the scored images (its number or key).",
)
@click.option(
    "--split",
    default=SplitConfig().label,
    show_default=True,
    help="Shares of the images that train SAEs, select latents and score them; none: all images do everything"
    " (in-sample).",
)
@click.option(
    "--cross-fit/--one-way",
    default=True,
    show_default=True,
    help="With too few images for three parts: train and score both halves of them in turn, or one half alone.",
)
@click.option(
    "--maps", type=click.IntRange(0, MAX_LATENTS), default=0, show_default=True, metavar="N",
    help="Relevancy maps of the N latents of every SAE that have the surest labels: where in an image each comes from.",
)  # fmt: skip
@click.option(
    "--intervene", "interventions", type=click.Path(path_type=Path), metavar="FILE",
    help="Edit latents of some nodes, as FILE (YAML) says: the block `intervene` of a study file, or its fields alone.",
)  # fmt: skip
@click.option(
    "--name-by", metavar="MODEL",
    help="Name latents by text, by a CLIP or SigLIP model of transformers: hub id or local folder.",
)  # fmt: skip
@click.option(
    "--vocabulary",
    metavar="wordnet|FILE",
    help="With --name-by, the possible names: the taxonomy's nodes, or a text file with a word a line."
    "  [default: wordnet]",
)
@keeping_options
@click.option("--priority", type=click.IntRange(0, 9), help="0 to 9; jobs of higher priority run first.  [default: 0]")
@click.option(
    "--spec",
    "spec_file",
    type=click.Path(path_type=Path),
    help="Study file (YAML) with layers and sweeps of SAEs, instead of the options above; shows the plan and asks.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be queued and what reused; enter nothing.")
@click.option("--yes", is_flag=True, help="With --spec: do not ask.")
@click.option("--wait", is_flag=True, help="Wait for the jobs, with live progress, then print the layer scores.")
@json_option
@pass_connections
@click.pass_context
def submit(
    ctx: click.Context,
    connections: Connections,
    /,
    spec_file: Path | None,
    dry_run: bool,
    yes: bool,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Queue extraction, SAE training and hierarchy analysis of one or more layers.

    What exists already is reused; what is under way is joined.
    """
    # The planner and the catalog take a second to load: help and completion of so many options do without.
    from hsae.cli.submission import Manner, request_of_options, request_of_spec, submit_request

    if dry_run and wait:
        raise UserError("--dry-run enters nothing that --wait could wait for: leave one of them out")
    from_file = spec_file is not None
    options["trains"] = ctx.get_parameter_source("kinds") is ParameterSource.COMMANDLINE
    if spec_file is None:
        request = request_of_options(connections, options)
    else:
        request = request_of_spec(ctx, connections, spec_file)
    asks = from_file and not yes and not dry_run
    if asks and not sys.stdin.isatty():
        raise UserError("--spec asks before it queues, and there is no terminal to answer: add --yes, or --dry-run")
    manner = Manner(from_file=from_file, asks=asks, dry_run=dry_run, wait=wait, as_json=as_json)
    given = (None, None) if from_file else (options["dataset"], options["score_dataset"])
    if not submit_request(connections, request, manner, given=given):
        ctx.exit(1)
