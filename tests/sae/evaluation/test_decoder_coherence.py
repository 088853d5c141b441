"""The coherence of a decoder against all pairs of directions, and its null against random directions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hsae.sae.evaluation import decoder_coherence as module
from hsae.sae.evaluation.decoder_coherence import decoder_coherence, random_coherence


def slow(decoder):
    greatest = []
    for i, one in enumerate(decoder.tolist()):
        cosines = []
        for j, other in enumerate(decoder.tolist()):
            lengths = math.hypot(*one) * math.hypot(*other)
            if i != j:
                cosines.append(abs(sum(a * b for a, b in zip(one, other, strict=True))) / lengths if lengths else 0.0)
        greatest.append(max(cosines))
    return greatest


@given(st.integers(2, 12), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_equals_all_pairs_with_directions_of_any_length(n, d_model, seed):
    decoder = torch.randn(n, d_model, generator=torch.Generator().manual_seed(seed))
    decoder[0] = 0.0
    decoder[-1] = -3.0 * decoder[n // 2]
    found, expected = decoder_coherence(decoder, seed=0), slow(decoder)
    assert found.mean == pytest.approx(sum(expected) / n, abs=1e-5)
    assert found.max == pytest.approx(max(expected), abs=1e-5)


def test_many_directions_are_sampled_and_each_is_compared_with_all(monkeypatch):
    decoder = torch.randn(400, 16, generator=torch.Generator().manual_seed(1))
    whole = decoder_coherence(decoder, seed=3)
    monkeypatch.setattr(module, "MOST_DIRECTIONS", 100)
    monkeypatch.setattr(module, "_BLOCK", 32)
    some = decoder_coherence(decoder, seed=3)
    assert some == decoder_coherence(decoder, seed=3) != whole
    assert some.mean == pytest.approx(whole.mean, abs=0.02)
    assert some.max <= whole.max


@pytest.mark.parametrize(("n", "d_model"), [(2, 3), (50, 8), (400, 64)])
def test_the_null_is_what_random_directions_have(n, d_model):
    drawn = [
        decoder_coherence(torch.randn(n, d_model, generator=torch.Generator().manual_seed(seed)), seed=0).mean
        for seed in range(200 if n == 2 else 3)
    ]
    assert random_coherence(n, d_model) == pytest.approx(sum(drawn) / len(drawn), abs=0.05)


def test_one_direction_has_no_coherence():
    assert decoder_coherence(torch.ones(1, 4), seed=0) is None
    assert random_coherence(7, 1) == 1.0
