"""Matching pursuit against one row and one step at a time."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.sae.kernels import pursuit
from hsae.sae.kernels.pursuit import pursue, pursuit_residual, pursuit_values


def plain_pursuit(row, directions, k):
    """Autograd's version: (picks, residual, z)."""
    left, z, picks = row, torch.zeros(directions.shape[0], dtype=row.dtype), []
    for _ in range(k):
        products = directions @ left
        best = max(range(len(products)), key=lambda j: (float(products[j].detach()), -j))
        picks.append(best)
        value = products[best].relu()
        z = z + value * torch.nn.functional.one_hot(torch.tensor(best), directions.shape[0])
        left = left - value * directions[best]
    return picks, left, z


def across(gradient, directions):
    """The gradient without its part along each direction."""
    unit = directions.detach()
    return gradient - (gradient * unit).sum(dim=1, keepdim=True) * unit


@pytest.mark.parametrize("gram", [False, True])
@examples(40)
@given(seed=st.integers(0, 2**31), n_rows=st.integers(1, 6), n_latents=st.integers(1, 9), k=st.integers(1, 9))
def test_picks_values_and_gradients(gram, seed, n_rows, n_latents, k):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n_rows, 4, generator=generator).requires_grad_()
    x.data[0] = 0  # along no direction
    directions = torch.nn.functional.normalize(torch.randn(n_latents, 4, generator=generator)).requires_grad_()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pursuit, "_LARGEST_GRAM", 10**6 if gram else 0)
        patched.setattr(pursuit, "_CHUNK_NUMBERS", 2 * n_latents)
        picks = pursue(x, directions, k)
    residual, values = pursuit_residual(x, directions, picks)
    z = pursuit_values(x, directions, picks)
    weights = torch.randn(n_rows, 4, generator=generator)
    (weights * residual).sum().backward()

    plain_x, plain_directions = (tensor.detach().double().requires_grad_() for tensor in (x, directions))
    total = torch.zeros((), dtype=torch.float64)
    for row in range(n_rows):
        expected, left, sums = plain_pursuit(plain_x[row], plain_directions, k)
        # Once nothing is left, rounding decides what is taken, with values of the size of rounding.
        matter = [step for step in range(k) if float(values[row, step].detach()) > 1e-4]
        assert [int(picks[row, step]) for step in matter] == [expected[step] for step in matter]
        torch.testing.assert_close(residual[row].double(), left, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(z[row].double(), sums, rtol=1e-4, atol=1e-4)
        total = total + (weights[row].double() * left).sum()
    assert float(z.detach().min()) >= 0
    total.backward()
    torch.testing.assert_close(x.grad.double(), plain_x.grad, rtol=1e-3, atol=1e-3)
    # Where every direction points away from what is left, rounding decides whether the last one is taken again. That
    # changes the gradient along this direction only, a part that the training removes.
    torch.testing.assert_close(
        across(directions.grad.double(), plain_directions), across(plain_directions.grad, plain_directions),
        rtol=1e-3, atol=1e-3,
    )  # fmt: skip


def test_the_gradient_of_the_values_reaches_the_rows():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(3, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    directions = torch.nn.functional.normalize(torch.randn(12, 6, generator=generator, dtype=torch.float64))
    picks = pursue(x, directions, 4)
    assert torch.autograd.gradcheck(lambda rows: pursuit_values(rows, directions, picks), x)
    with torch.no_grad():
        assert torch.equal(pursuit_values(x, directions, picks), pursuit_values(x.detach(), directions, picks))


def test_of_equal_products_the_lower_latent_is_taken():
    directions = torch.eye(3)[[0, 1, 0]]
    x = torch.tensor([[2.0, 2.0, -1.0]])
    assert pursue(x, directions, 3)[0].tolist() == [0, 1, 0]
    assert pursuit_values(x, directions, pursue(x, directions, 3))[0].tolist() == [2.0, 2.0, 0.0]
