"""hsae-admin sae import."""

import shlex

import click

from hsae.backbones.hooks.names import RESIDUAL
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.output import print_json
from hsae.sae.config import SaeConfig
from hsae.sae.exchange.place import SaePlace

_FORMATS = "hsae, saelens, dictionary_learning, prisma, saev, sparsify, overcomplete, msae"


@click.command("import")
@click.argument("source", metavar="PATH")
@click.option("--name", help="What to call it here.  [default: the name of the folder]")
@click.option("--format", "format_name", help=f"Format of the files: {_FORMATS}.  [default: as the files tell]")
@click.option(
    "--layer", type=click.IntRange(min=0), help="0-based layer that it was trained on, where its files don't say."
)
@click.option("--hook", help="Hook point that it was trained on, as for submit, where its files don't say.")
@click.option("--model", help="Model of the SAE, where its files don't say.")
@click.option("--subfolder", default="", help="Folder inside PATH that has the SAE.")
@click.option("--revision", help="Branch, tag or commit of a hub repository.")
@json_option
@pass_connections
def import_(
    connections: Connections,
    source: str,
    name: str | None,
    format_name: str | None,
    layer: int | None,
    hook: str | None,
    model: str | None,
    subfolder: str,
    revision: str | None,
    as_json: bool,
) -> None:
    """Register an SAE that another program trained.

    PATH is a folder or safetensors file of SAELens, dictionary_learning, ViT-Prisma, saev, sparsify, overcomplete or
    MSAE, or a repository of the Hugging Face Hub (owner/name). What the package computes is folded into our weights
    exactly, or refused. `submit --sae-from NAME --layer N` then analyses it like an SAE trained here.
    """
    connections.sessions, connections.store  # noqa: B018
    place = SaePlace(source, subfolder, revision, connections.settings.model_cache)
    place.local()
    # torch comes with these, seconds: help, and a path that leads nowhere, do without.
    from hsae.pipeline.submission.imported_saes import read_checked, register_sae

    found = read_checked(place, format_name=format_name, name=name, layer=layer, model=model, hook=hook)
    config, is_new = register_sae(connections, found, source)
    if as_json:
        print_json({"is_new": is_new, "config": config.model_dump(mode="json")})
    else:
        _print(config, is_new=is_new)


def _print(config: SaeConfig, *, is_new: bool) -> None:
    origin = config.imported
    if origin is None:
        return
    where = "of a layer that its files do not say" if origin.layer is None else f"of layer {origin.layer}"
    hook = "" if origin.hook == RESIDUAL else f" --hook {shlex.quote(origin.hook)}"
    where += f" at {origin.hook}" if hook else ""
    of_model = "" if origin.model is None else f" of {origin.model}"
    click.echo(
        f"{'Imported' if is_new else 'Already imported'} {origin.name}: {config.kind} SAE of {origin.n_latents}"
        f" latents, d_model {origin.d_model}, {where}{of_model} ({origin.format})"
    )
    for note in origin.notes:
        click.echo(f"  {note}")
    layer = "LAYER" if origin.layer is None else origin.layer
    click.echo(f"Analyse it with `hsae-admin submit --sae-from {origin.name} --layer {layer}{hook}`.")
