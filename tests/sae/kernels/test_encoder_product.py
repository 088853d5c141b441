"""The encoder's product in memory that is used again."""

import pytest
import torch
import torch.nn.functional as F

from hsae.sae.kernels.encoder_product import encoder_product, product_memory


def random(*shape: int, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)


@pytest.mark.parametrize(("n_rows", "n_latents"), [(1, 1), (7, 24), (64, 259), (0, 3)])
def test_has_the_bits_of_linear(n_rows, n_latents):
    weight, bias = random(n_latents, 37).requires_grad_(), random(n_latents).requires_grad_()
    with product_memory():
        for inputs in (random(n_rows, 37), random(n_rows + 3, 37), random(n_rows, 37).double()):
            dtype = inputs.dtype
            found = encoder_product(inputs, weight.to(dtype), bias.to(dtype))
            assert not found.requires_grad
            assert torch.equal(found, F.linear(inputs, weight.to(dtype), bias.to(dtype)))


def test_memory_is_shared_inside_only():
    weight, bias = random(24, 5), random(24)
    apart = [encoder_product(random(n, 5), weight, bias) for n in (4, 4)]
    assert apart[0].data_ptr() != apart[1].data_ptr()
    with product_memory():
        first = encoder_product(random(6, 5), weight, bias)
        assert encoder_product(random(4, 5), weight, bias).data_ptr() == first.data_ptr()
        with product_memory():
            assert encoder_product(random(4, 5), weight, bias).data_ptr() == first.data_ptr()
        assert encoder_product(random(6, 5), weight, bias).data_ptr() == first.data_ptr()
