"""hsae-admin models show."""

from typing import Any

import click

from hsae.backbones.hooks.names import HOOKS, prisma_name
from hsae.backbones.inspection import describe
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.output import print_json, print_rows
from hsae.sae.exchange.hook_points import hook_point_of

_HOOKS = {"hook": "hook point", "module": "module", "layers": "layers", "width": "width", "prisma": "SAELens, Prisma"}
_LAYERS = {"layer": "layer", "module": "block", "width": "width", "n_patches": "patches", "prisma": "SAELens, Prisma"}


@click.command()
@click.argument("model")
@click.option("--revision", help="Branch, tag or commit of a hub model.")
@json_option
@pass_connections
def show(connections: Connections, model: str, revision: str | None, as_json: bool) -> None:
    """Show MODEL: its blocks, widths, tokens and hook points.

    MODEL is a hub id, a folder, or a model of timm or open_clip behind a prefix. No weights are loaded. The last
    columns say what SAELens and Prisma call the same places.
    """
    described = describe(model, revision=revision, cache_dir=connections.settings.model_cache)
    hooks, modules = described.hooks(), described.modules()
    spec = described.at("residual")
    layers = [
        {
            "layer": layer,
            "module": modules[layer],
            "width": spec.shape(layer).width,
            "n_patches": spec.shape(layer).n_patches,
            "prisma": hook_point_of(layer),
        }
        for layer in range(spec.n_layers)
    ]
    points = [
        {
            "hook": hook,
            "meaning": HOOKS[hook],
            "module": module or "(the whole model)",
            "layers": _ends(list(shapes)),
            "width": _ends(list(dict.fromkeys(shape.width for shape in shapes.values()))),
            "prisma": _prisma(hook),
        }
        for hook, (module, shapes) in hooks.items()
    ]
    about: dict[str, Any] = {
        "name": spec.name,
        "revision": spec.revision,
        "model_type": spec.model_type,
        "n_layers": spec.n_layers,
        "d_model": spec.d_model,
        "n_patches": spec.n_patches,
        "tokens": _tokens(spec.has_class_token, spec.n_registers),
        "n_registers": spec.n_registers,
        "image_size": list(described.image_size),
    }
    if as_json:
        print_json(about | {"hooks": points, "layers": layers})
        return
    click.echo(f"{spec.name}  {spec.model_type}  revision {spec.revision}")
    registers = f" ({spec.n_registers} registers)" if spec.n_registers else ""
    click.echo(
        f"{spec.n_layers} blocks, width {spec.d_model}, images of {described.image_size[0]} x {described.image_size[1]}"
        f" pixels in {spec.n_patches} patches"
    )
    click.echo(f"tokens: {', '.join(about['tokens'])}{registers}\n")
    print_rows(points, _HOOKS, as_json=False, empty="")
    click.echo()
    print_rows(layers, _LAYERS, as_json=False, empty="")
    click.echo("\n--hook also takes the path of any module, with a * for the number of a block.")


def _tokens(has_class_token: bool, n_registers: int) -> list[str]:
    there = {"cls": has_class_token, "registers": n_registers, "patches": True, "mean": True}
    return [name for name, found in there.items() if found]


def _ends(values: list[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"


def _prisma(hook: str) -> str | None:
    named = prisma_name(hook, 0)
    return None if named is None else named.replace("blocks.0.", "blocks.N.")
