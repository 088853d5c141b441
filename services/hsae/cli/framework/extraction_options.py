"""The options of `submit` that say how activations are extracted, and how long they are kept."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_args

import click

from hsae.backbones.spec import Tokens
from hsae.extraction.config import PATCH_SHARD_IMAGES, ComputeDtype, Decode, DropAfter, ExtractionConfig, StoredDtype

_Command = TypeVar("_Command", bound=Callable[..., Any])

_DEFAULTS = ExtractionConfig()
_OPTIONS = (
    click.option(
        "--tokens",
        type=click.Choice(get_args(Tokens)),
        default=_DEFAULTS.tokens,
        show_default=True,
        help="Which activations of an image: class token, register tokens, every patch token, or the mean of the patch"
        " tokens.",
    ),
    click.option(
        "--hook",
        default=_DEFAULTS.hook,
        show_default=True,
        metavar="NAME|PATH",
        help="Where in the model: residual (the stream after a block), attention or mlp (what they add to it),"
        " embedding (after the projection), or the path of a module (encoder.layer.8.mlp; a * for every block). See"
        " `models show`.",
    ),
    click.option(
        "--patches-per-image",
        type=click.IntRange(min=0),
        default=_DEFAULTS.patches_per_image,
        show_default=True,
        metavar="N",
        help="With --tokens patches: how many are drawn of every image by --seed; 0: all.",
    ),
    click.option(
        "--dtype",
        type=click.Choice(get_args(StoredDtype)),
        default=_DEFAULTS.dtype,
        show_default=True,
        help="Stored type of the activations.",
    ),
    click.option(
        "--compute-dtype",
        type=click.Choice(get_args(ComputeDtype)),
        default=_DEFAULTS.precision,
        show_default=True,
        help="Of the backbone's products; tf32 and bfloat16 are faster and round. auto: bfloat16 where --dtype is, or"
        " where this machine's processor has instructions for it, else float32.",
    ),
    click.option(
        "--decode",
        type=click.Choice(get_args(Decode)),
        default=_DEFAULTS.decode,
        show_default=True,
        help="How large JPEGs are decoded. scaled: at 1/2, 1/4 or 1/8 of their size, where that leaves twice the pixels"
        " that the model needs on a side; faster, and activations differ a little.",
    ),
    click.option(
        "--part-images",
        type=click.IntRange(min=1),
        help="Images that go through the backbone at once, for GPUs with little memory."
        f"  [default: {_DEFAULTS.batch_size}, a batch]",
    ),
    click.option(
        "--views",
        type=int,
        default=_DEFAULTS.n_views,
        show_default=True,
        help="1 + augmented views per image, used as further training rows only.",
    ),
    click.option(
        "--shard-images",
        type=click.IntRange(min=1),
        help=f"Images per shard.  [default: {_DEFAULTS.shard_images}; patches: {PATCH_SHARD_IMAGES}]",
    ),
)
_OF_KEEPING = (
    click.option(
        "--keep",
        is_flag=True,
        help="Keep the activations, which is the default; what was dropped is extracted again. It counts more than a"
        " study file.",
    ),
    click.option(
        "--drop-after",
        type=click.Choice(get_args(DropAfter)),
        help="Delete the layers' activations once the analyses, and all other jobs that read them, have succeeded; not"
        " those that another study keeps.",
    ),
)


def extraction_options(command: _Command) -> _Command:
    """Add the options of the extraction to a command, in their order."""
    return _with(_OPTIONS, command)


def keeping_options(command: _Command) -> _Command:
    """Add the options that say how long activations are kept."""
    return _with(_OF_KEEPING, command)


def _with(options: Sequence[Callable[[_Command], _Command]], command: _Command) -> _Command:
    for option in reversed(options):
        command = option(command)
    return command
