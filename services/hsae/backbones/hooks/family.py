"""What models of one family have in common: where their blocks lie, and what a block adds to the residual stream."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Addition:
    """What a part of a block adds to the residual stream: the output of a module.

    Attributes:
        path: of the module, below the block.
        factor: name of a parameter of the block that scales the output before it is added; empty: none.
    """

    path: str
    factor: str = ""


@dataclass(frozen=True, slots=True)
class Embedding:
    """The image's embedding, which a model computes after its blocks.

    Attributes:
        path: of the module whose output it is.
        model_class: name of the class in `transformers` that has this module; empty: the family's own.
        prefix: what stands before the paths of the blocks in that class.
    """

    path: str
    model_class: str = ""
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Where a family keeps what is read.

    Attributes:
        blocks: path of the blocks; a star stands for a number, of two the first is a stage's.
        attention: what the attention adds; None: the blocks have none.
        mlp: what the MLP adds.
        embedding: the image's embedding; None: there is none.
        is_staged: whether blocks differ in width and number of patches.
        map_axes: the order of the axes where a block gives a map of rows and columns.
        example: a model of the family, as a user names it.
    """

    blocks: str = "layers.*"
    attention: Addition | None = None
    mlp: Addition | None = None
    embedding: Embedding | None = None
    is_staged: bool = False
    map_axes: Literal["channels_first", "channels_last"] = "channels_last"
    example: str = ""
