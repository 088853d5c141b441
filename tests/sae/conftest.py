"""Small data with a known answer."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hsae.sae.rows.source import TrainingRows


@pytest.fixture(autouse=True)
def _one_thread():
    """Tensors this small only lose by threads."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def planted_dictionary(
    n_rows: int, d_model: int, n_directions: int, n_active: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Rows that are sums of `n_active` of `n_directions` unit directions with weights in 0.5..1.5, plus an offset;
    and the directions."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(n_directions, d_model, generator=generator)
    directions /= directions.norm(dim=1, keepdim=True)
    chosen = torch.rand(n_rows, n_directions, generator=generator).argsort(dim=1)[:, :n_active]
    weights = torch.zeros(n_rows, n_directions).scatter_(
        1, chosen, 0.5 + torch.rand(n_rows, n_active, generator=generator)
    )
    offset = 3.0 * torch.randn(d_model, generator=generator)
    return weights @ directions + offset, directions


def rows_of(activations: Tensor, n_views: int = 1) -> TrainingRows:
    """One image after the other, each with `n_views` consecutive rows."""
    index = torch.arange(activations.shape[0], dtype=torch.int32)
    return TrainingRows(activations, index // n_views, (index % n_views).to(torch.int16))


@pytest.fixture
def planted() -> Callable[..., tuple[Tensor, Tensor]]:
    return planted_dictionary


@pytest.fixture
def as_rows() -> Callable[..., TrainingRows]:
    return rows_of


@pytest.fixture
def rows() -> TrainingRows:
    """150 rows of a planted dictionary, for small trainings."""
    return rows_of(planted_dictionary(150, 8, 12, 2)[0])
