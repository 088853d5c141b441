"""A plain dense step, and the matrix products that bound any step of an SAE."""

import torch
import torch.nn.functional as F
from benchmarks.sae.contender import Batches, Contender, Setting, all_steps, clip_and_step

DENSE = "plain dense step"
ONE_PRODUCT = "one product (bound of a sparse step)"
FIVE_PRODUCTS = "five products (bound of a dense step)"


def plain_contenders() -> list[Contender]:
    """ReLU + L1 as one writes it down, and the two bounds."""
    return [
        Contender(DENSE, "relu", lambda setting, after: all_steps(_Dense(setting), setting, after)),
        Contender(ONE_PRODUCT, "bound", lambda setting, after: all_steps(_Products(setting), setting, after)),
        Contender(FIVE_PRODUCTS, "bound", lambda setting, after: all_steps(_FiveProducts(setting), setting, after)),
    ]


class _Dense:
    """Eager PyTorch with autograd and fused Adam: five dense products a step."""

    def __init__(self, setting: Setting) -> None:
        generator = torch.Generator().manual_seed(setting.seed)
        directions = F.normalize(torch.randn(setting.n_latents, setting.d_model, generator=generator), dim=1)
        scale = setting.d_model**0.5 / float((setting.rows - setting.rows.mean(dim=0)).norm(dim=1).mean())
        self._batches = Batches(setting, scale)
        self._encoder, self._decoder = (directions.clone().requires_grad_() for _ in range(2))
        self._bias = torch.full((setting.n_latents,), -2.0, requires_grad=True)
        self._mean = (setting.rows.mean(dim=0) * scale).requires_grad_()
        self._parameters = [self._encoder, self._decoder, self._bias, self._mean]
        self._optimiser = torch.optim.Adam(self._parameters, lr=1e-3, fused=True)

    def step(self) -> None:
        x = self._batches.next()
        z = F.relu(F.linear(x - self._mean, self._encoder, self._bias))
        residual = x - z @ self._decoder - self._mean
        (residual.square().mean() + 0.3 * z.sum() / (x.shape[0] * x.shape[1] ** 0.5)).backward()
        clip_and_step(self._parameters, self._optimiser)
        with torch.no_grad():
            self._decoder.div_(self._decoder.norm(dim=1, keepdim=True))


class _Products:
    def __init__(self, setting: Setting) -> None:
        generator = torch.Generator().manual_seed(setting.seed)
        self._batches = Batches(setting)
        self._weight = torch.randn(setting.n_latents, setting.d_model, generator=generator)

    def step(self) -> None:
        _pre = self._batches.next() @ self._weight.T


class _FiveProducts(_Products):
    def step(self) -> None:
        x = self._batches.next()
        pre = x @ self._weight.T
        gradient = pre @ self._weight
        _of_pre = gradient @ self._weight.T
        _of_decoder, _of_encoder = pre.T @ gradient, pre.T @ x
