"""What every baseline is: a name, a few traits, and columns made from the train images."""

from abc import ABC, abstractmethod
from typing import ClassVar

from hsae.hierarchy.controls.bases.columns import Columns
from hsae.hierarchy.controls.bases.inputs import BaselineInputs
from hsae.vocabulary.bases import ControlBasis


class Baseline(ABC):
    """One kind of columns that an SAE is compared with.

    Attributes:
        name: the basis.
        needs_one_token: whether it is defined for images of one token alone.
        is_repeated: whether it is drawn with several seeds.
        is_ceiling: whether it uses labels, so that it is a ceiling and no baseline; all of its columns fire, even if
            there are more than the SAE has.
    """

    name: ClassVar[ControlBasis]
    needs_one_token: ClassVar[bool] = True
    is_repeated: ClassVar[bool] = False
    is_ceiling: ClassVar[bool] = False

    @staticmethod
    @abstractmethod
    def columns(given: BaselineInputs, seed: int) -> Columns:
        """Its columns on all images.

        Args:
            given: what it is made from.
            seed: seed of NumPy's `Generator(PCG64(seed))`, where anything is drawn.

        Raises:
            UserError: the inputs hold NaN or infinite values, or what it needs is missing.
        """
