"""Training steps a second of sparse autoencoders on synthetic rows, by kind and precision, with hsae's own trainer.

Beside them stands the one product that bounds a sparse step: a batch times the encoder, in the same precision. Goal:
ReLU and TopK in bfloat16 take at most twice as long as it.
"""

import argparse
import time
from dataclasses import dataclass
from typing import get_args

import torch
from benchmarks.gpu.product_rate import seconds_of_product
from benchmarks.measure import Row, at_least, machine, print_header, print_report, versions

from hsae.devices.numerics import prepare_device
from hsae.devices.precision import Precision
from hsae.sae.config import SaeConfig
from hsae.sae.rows.source import TrainingRows
from hsae.sae.training.trainer import StepReport, train

KINDS = ("relu", "topk", "batch_topk", "jumprelu")


@dataclass(frozen=True, slots=True)
class Size:
    """Width, dictionary and batch of a training."""

    d_model: int
    expansion: int
    batch_size: int
    n_steps: int


SIZES = {"tiny": Size(16, 2, 64, 6), "full": Size(1_536, 8, 16_384, 60)}
_WARM_UP = 10
MIN_OF_BOUND = 0.5
_WITH_GOAL = {("relu", "bfloat16"), ("topk", "bfloat16")}


class _Clock:
    """Seconds from the tenth step to the last; a report is made when the numbers of its step are on the host."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step(self, report: StepReport) -> None:
        self.times.append(time.perf_counter())

    def steps_per_second(self) -> float:
        first = min(_WARM_UP, len(self.times) // 2)
        return (len(self.times) - 1 - first) / (self.times[-1] - self.times[first])


def synthetic_rows(size: Size) -> TrainingRows:
    generator = torch.Generator().manual_seed(0)
    n_rows = 8 * size.batch_size
    rows = torch.randn(n_rows, size.d_model, generator=generator) + 3 * torch.randn(size.d_model, generator=generator)
    return TrainingRows(rows, torch.arange(n_rows, dtype=torch.int32), torch.zeros(n_rows, dtype=torch.int16))


def measured(size: Size, device: torch.device) -> list[Row]:
    rows, found = synthetic_rows(size), []
    bounds = {}
    for precision in get_args(Precision):
        batch = rows.activations[: size.batch_size].to(device)
        encoder = torch.randn(size.d_model, size.d_model * size.expansion, device=device)
        bounds[precision] = 1 / seconds_of_product(batch, encoder, precision)
        found.append(Row(f"the product of a batch and the encoder, {precision}", bounds[precision], "1/s"))
        del batch, encoder
    for kind in KINDS:
        for precision in get_args(Precision):
            config = SaeConfig(
                kind=kind,
                expansion=size.expansion,
                n_steps=size.n_steps,
                batch_size=size.batch_size,
                precision=precision,
                dead_after_steps=10**6,
            )
            clock = _Clock()
            train(config, rows, device=device, on_step=clock.on_step)
            rate = clock.steps_per_second()
            found.append(Row(f"{kind}, {precision}: steps per second", rate, "1/s"))
            found.append(Row(f"{kind}, {precision}: rows per second", rate * size.batch_size, "1/s"))
            share, name = rate / bounds[precision], f"{kind}, {precision}: steps / products of a batch and the encoder"
            has_goal = (kind, precision) in _WITH_GOAL
            found.append(at_least(name, share, "x", MIN_OF_BOUND) if has_goal else Row(name, share, "x"))
            print(f"  {kind}, {precision}: {rate:.1f} steps/s", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full", help="default: %(default)s")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help="default: %(default)s")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device")
    device, size = torch.device(arguments.device), SIZES[arguments.size]
    prepare_device(device)
    where, what = machine(), versions()
    print_header(f"training steps on {device.type}: {size}", where, what)
    not_measured = [
        "trainers of other packages",
        "rows that are read while it trains",
        "the auxiliary loss of dead latents",
        "several SAEs at once",
    ]
    print_report(measured(size, device), where, what, not_measured)


if __name__ == "__main__":
    main()
