"""The formulas on small tensors: against the paper's matrix, with loops, and their properties."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hsae.relevancy.formulas import Propagation, grad_cam, gradient_norm, last_attention, positive_part
from hsae.relevancy.map_summary import summarise

N_TOKENS, N_HEADS, N_BLOCKS, D = 5, 2, 3, 6


class TinyTransformer:
    """Blocks of attention alone, written out: `x + softmax(x Q (x K)^T) x V`, head by head."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.weights = [
            [[torch.randn(D, D, generator=generator) * 0.4 for _ in range(3)] for _ in range(N_HEADS)]
            for _ in range(N_BLOCKS)
        ]

    def __call__(self, x):
        """The output, and the attention weights [1, heads, n, n] of every block."""
        attentions = []
        for heads in self.weights:
            weights = torch.stack([((x @ q) @ (x @ k).T / D**0.5).softmax(-1) for q, k, _ in heads])[None]
            attentions.append(weights)
            x = x + sum(weights[0, i] @ (x @ v) for i, (_, _, v) in enumerate(heads))
        return x, attentions


def by_the_paper(model, x, direction, rows):
    """R as the whole matrix, with a loop over blocks, heads and pairs of tokens."""
    out, attentions = model(x)
    gradients = torch.autograd.grad((rows @ out) @ direction, attentions)
    R = torch.eye(N_TOKENS)
    for attention, gradient in zip(attentions, gradients, strict=True):
        A = torch.zeros(N_TOKENS, N_TOKENS)
        for head in range(N_HEADS):
            for i in range(N_TOKENS):
                for j in range(N_TOKENS):
                    A[i, j] += max(0.0, float(gradient[0, head, i, j] * attention[0, head, i, j].detach())) / N_HEADS
        R = R + A @ R
    return rows @ R


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rows", [[1.0, 0, 0, 0, 0], [0, 0.25, 0.25, 0.25, 0.25], [0, 0, 0, 1.0, 0]])
def test_a_row_from_the_last_block_down_is_the_row_of_the_paper_s_matrix(seed, rows):
    model, rows = TinyTransformer(seed), torch.tensor(rows)
    generator = torch.Generator().manual_seed(seed + 100)
    x = torch.randn(N_TOKENS, D, generator=generator).requires_grad_()
    direction = torch.randn(D, generator=generator)
    out, attentions = model(x)
    propagation = Propagation(rows[None])
    for attention in attentions:
        propagation.through(attention)
    torch.autograd.grad((rows @ out) @ direction, x)
    torch.testing.assert_close(propagation.row[0], by_the_paper(model, x, direction, rows), rtol=1e-4, atol=1e-6)


small = st.floats(-4, 4, width=32)


@given(hnp.arrays(np.float32, (2, 3, 4, 4), elements=small), hnp.arrays(np.float32, (2, 3, 4, 4), elements=small))
def test_the_positive_part_is_that_of_every_head(attention, gradient):
    found = positive_part(torch.from_numpy(attention), torch.from_numpy(gradient)).numpy()
    assert (found >= 0).all()
    np.testing.assert_allclose(found, np.maximum(attention * gradient, 0).mean(1), rtol=1e-5, atol=1e-6)
    # Gradients that are scaled scale it.
    doubled = positive_part(torch.from_numpy(attention), torch.from_numpy(2 * gradient)).numpy()
    np.testing.assert_allclose(doubled, 2 * found, rtol=1e-5, atol=1e-6)


def test_without_a_gradient_only_the_identity_is_left():
    x = torch.randn(N_TOKENS, D).requires_grad_()
    out, attentions = TinyTransformer(0)(x)
    propagation = Propagation(torch.eye(N_TOKENS)[:1])
    for attention in attentions:
        propagation.through(attention)
    torch.autograd.grad((out * 0).sum(), x)
    assert torch.equal(propagation.row, torch.eye(N_TOKENS)[:1])


@given(hnp.arrays(np.float32, (1, 3, 4), elements=small), hnp.arrays(np.float32, (1, 3, 4), elements=small))
def test_grad_cam_and_gradient_norm_are_their_definitions(values, gradients):
    given_values, given_gradients = torch.from_numpy(values), torch.from_numpy(gradients)
    weights = gradients[0].mean(0)
    cam = [max(0.0, float(sum(w * v for w, v in zip(weights, row, strict=True)))) for row in values[0]]
    np.testing.assert_allclose(grad_cam(given_values, given_gradients)[0], cam, rtol=1e-3, atol=1e-3)
    norms = np.sqrt(((values[0].astype(np.float64) * gradients[0]) ** 2).sum(1))
    np.testing.assert_allclose(gradient_norm(given_values, given_gradients)[0], norms, rtol=1e-3, atol=1e-4)


def test_raw_attention_is_the_mean_over_the_heads_of_the_rows():
    attention = torch.rand(1, 2, 3, 3)
    rows = torch.tensor([[0.0, 0.5, 0.5]])
    expected = (attention[0, :, 1] + attention[0, :, 2]).mean(0) / 2
    torch.testing.assert_close(last_attention(rows, attention)[0], expected)


@given(hnp.arrays(np.float32, (3, 4), elements=st.floats(0, 100, width=32)))
def test_the_summary_of_a_map(values):
    found = summarise(values)
    if not values.max() > 0:
        assert found is None
        return
    assert found.peak == values.max() == values[found.peak_row, found.peak_col]
    assert found.scaled.dtype == np.float16
    assert found.scaled[found.peak_row, found.peak_col] == 1
    ordered = sorted(values.astype(np.float64).flatten(), reverse=True)
    assert found.concentration == pytest.approx(sum(ordered[:2]) / sum(ordered))  # a tenth of 12 patches: 2
    assert found.concentration + 1e-9 >= 2 / 12
    assert found.concentration <= 1 + 1e-9


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_map_with_a_value_that_is_not_finite_is_undefined(bad):
    values = np.ones((2, 2), np.float32)
    values[1, 1] = bad
    assert summarise(values) is None


def test_negative_values_are_no_relevancy():
    found = summarise(np.array([[2, -4], [0, 1]], np.float32))
    assert (found.peak, found.peak_row, found.peak_col) == (2, 0, 0)
    assert found.scaled.tolist() == [[1, 0], [0, 0.5]]
    assert found.concentration == pytest.approx(2 / 3)
    assert summarise(np.zeros((2, 2), np.float32)) is None
    assert summarise(np.full((2, 2), -1, np.float32)) is None
