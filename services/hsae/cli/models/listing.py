"""hsae-admin models list."""

from typing import Any

import click

from hsae.backbones.architectures import ARCHITECTURES, LANGUAGE_MODELS, TOWERS, Architecture
from hsae.backbones.hooks.family import Family
from hsae.backbones.hooks.names import ATTENTION, EMBEDDING, MLP, RESIDUAL
from hsae.backbones.loading.library_families import OPEN_CLIP, TIMM
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.output import print_rows

_COLUMNS = {
    "library": "library", "type": "type", "example": "example", "tokens": "tokens", "hooks": "hook points",
    "blocks": "blocks",
}  # fmt: skip


@click.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the families of models that can be read.

    A model of transformers is recognised by the model_type in its config.json. Models of timm and open_clip are named
    with a prefix and need the extras timm and open-clip.
    """
    rows = [_row("transformers", name, family, _tokens(family)) for name, family in ARCHITECTURES.items()]
    for name, tower in TOWERS.items():
        rows.append(_row("transformers", name, ARCHITECTURES[tower], _tokens(ARCHITECTURES[tower])) | {"example": ""})
    for name in LANGUAGE_MODELS:
        family = ARCHITECTURES["clip_vision_model"]
        rows.append(
            _row("transformers", name, family, "as its vision tower")
            | {"example": "", "blocks": "as its vision tower", "hooks": [RESIDUAL, ATTENTION, MLP]}
        )
    rows += [
        _row("timm", name, family, "patches, mean" if family.is_staged else "as the model has them")
        for name, family in TIMM.items()
    ]
    rows.append(_row("open_clip", "VisionTransformer, TimmModel", OPEN_CLIP, "cls, patches, mean"))
    shown = rows if as_json else [row | {"hooks": ", ".join(row["hooks"])} for row in rows]
    print_rows(shown, _COLUMNS, as_json=as_json, empty="", importance=("type", "library", "tokens", "hooks"))


def _row(library: str, name: str, family: Family, tokens: str) -> dict[str, Any]:
    there = {RESIDUAL: True, ATTENTION: family.attention, MLP: family.mlp, EMBEDDING: family.embedding}
    return {
        "library": library,
        "type": name,
        "example": family.example,
        "tokens": tokens,
        "hooks": [hook for hook, found in there.items() if found is not None],
        "blocks": family.blocks,
    }


def _tokens(family: Architecture) -> str:
    there = {"cls": family.has_class_token, "registers": family.has_registers, "patches": True, "mean": True}
    return ", ".join(name for name, found in there.items() if found)
