"""Images per second from files to class tokens of every layer: hsae against a plain loop over transformers.

Both decode the same files with the same function, preprocess them with the model's own image processor, run the same
batches in float32 and end with the class tokens in the CPU's memory. hsae decodes ahead in threads, and also checks
every file's sha256 sum and every activation for NaN and infinity; the loop does one thing after another.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "passive"  # as in the workers; read when torch is loaded

import torch
from benchmarks.measure import Row, at_most, machine, print_header, print_report, seconds_in_turns, versions
from jaxtyping import Float
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel
from transformers.utils import logging as transformers_logging

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.backbones.spec import check_tokens
from hsae.datasets import ImageSource, open_image, scan
from hsae.demo import backbone_folder, images_folder
from hsae.errors import UserError
from hsae.extraction.config import ExtractionConfig
from hsae.extraction.listed import ListedImage
from hsae.extraction.shards import extract_shard
from hsae.pipeline.execution.freed_memory import keep_freed_memory
from hsae.settings import Settings
from hsae.taxonomy import load_taxonomy

MAX_PIXELS: int = Settings.model_fields["max_image_pixels"].default
TOLERANCE = 1e-4


def with_hsae(
    backbone: Backbone, source: ImageSource, listed: Sequence[ListedImage], batch_size: int
) -> Float[Tensor, "n_layers n_images d_model"]:
    """The class tokens from `extract_shard`, as the stage `extract` calls it."""
    extraction = ExtractionConfig(batch_size=batch_size, max_image_pixels=MAX_PIXELS)
    result = extract_shard(backbone, source, listed, extraction, on_batch=lambda n_done: None)
    return torch.stack([result.activations[layer] for layer in backbone.layers])


@torch.no_grad()
def with_transformers(
    model: Any, processor: Any, root: Path, listed: Sequence[ListedImage], batch_size: int
) -> Float[Tensor, "n_layers n_images d_model"]:
    """The same as one writes it by hand."""
    parts = []
    for start in range(0, len(listed), batch_size):
        images = [open_image(root / entry.path, max_pixels=MAX_PIXELS) for entry in listed[start : start + batch_size]]
        pixel_values = processor(images=images, return_tensors="pt")["pixel_values"].to(model.device)
        hidden_states = model(pixel_values=pixel_values, output_hidden_states=True).hidden_states
        # The first one is the embedding, before block 0.
        parts.append(torch.stack([hidden[:, 0] for hidden in hidden_states[1:]]).cpu())
    return torch.cat(parts, dim=1)


def largest_difference(
    ours: Float[Tensor, "n_layers n_images d_model"], theirs: Float[Tensor, "n_layers n_images d_model"]
) -> float:
    """Ends the program where it is above TOLERANCE."""
    if ours.shape != theirs.shape:
        raise SystemExit(f"hsae gives {tuple(ours.shape)}, the loop {tuple(theirs.shape)}; nothing was timed")
    largest = float((ours - theirs).abs().max())
    if not largest <= TOLERANCE:  # NaN ends it too
        raise SystemExit(f"the activations differ by {largest:.3g}; nothing was timed")
    return largest


def main() -> None:
    keep_freed_memory()  # as in a job, and for every contender
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a vision transformer (default: the bundled one)")
    parser.add_argument("--images", type=int, default=512, metavar="N", help="the first N bundled images, of 1,790")
    parser.add_argument("--batch-size", type=int, default=32, help="images per forward pass (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each contender (default: %(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    arguments = parser.parse_args()
    for name in ("images", "batch_size", "repeats"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    has_cuda = torch.cuda.is_available()
    if arguments.device == "cuda" and not has_cuda:
        parser.error("--device cuda: torch sees no CUDA device")
    device = torch.device(arguments.device or ("cuda" if has_cuda else "cpu"))
    folder: Path = arguments.model or backbone_folder()
    if not folder.is_dir():
        parser.error(f"--model {folder}: there is no such folder")

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    where, what = machine(), versions()
    try:
        dataset = scan(images_folder(), load_taxonomy())
        spec = inspect_backbone(str(folder))
        check_tokens(spec, "cls")
        backbone = Backbone.load(spec, layers=range(spec.n_layers), device=device)
    except UserError as error:
        raise SystemExit(str(error)) from error
    rows = dataset.listing.select(["image", "path", "sha256"]).to_pylist()[: arguments.images]
    listed = [ListedImage(**row) for row in rows]
    model = AutoModel.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, trust_remote_code=False
    )
    model = model.eval().to(device)
    # The processor on PIL, which hsae uses always and transformers unless torchvision is installed.
    processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
        folder, backend="pil", local_files_only=True, trust_remote_code=False
    )
    height, width = spec.preprocessing["image_size"]
    title = (
        f"extraction: class token, {spec.n_layers} layers of {folder.name} ({spec.model_type}, d_model {spec.d_model}, "
        f"{height} x {width} pixels) over {len(listed):,} bundled images, float32 on {device.type}, "
        f"batches of {arguments.batch_size}, {torch.get_num_threads()} threads in torch"
    )
    print_header(title, where, what)

    def run_hsae() -> Float[Tensor, "n_layers n_images d_model"]:
        return with_hsae(backbone, dataset.source, listed, arguments.batch_size)

    def run_transformers() -> Float[Tensor, "n_layers n_images d_model"]:
        return with_transformers(model, processor, Path(dataset.source.root), listed, arguments.batch_size)

    difference = largest_difference(run_hsae(), run_transformers())  # it also warms both up
    seconds = seconds_in_turns({"hsae": run_hsae, "transformers": run_transformers}, arguments.repeats)
    hsae, transformers = (len(listed) / value for value in seconds.values())
    print_report(
        [
            Row("hsae", hsae, "images/s"),
            Row("transformers loop", transformers, "images/s"),
            Row("hsae / transformers loop", hsae / transformers, "x"),
            at_most("largest difference between the activations", difference, "", TOLERANCE),
        ],
        where,
        what,
        [
            *([] if device.type == "cuda" else ["CUDA" if has_cuda else "CUDA (this machine has none)"]),
            "a loop with a DataLoader of several processes",
            "photographs (the bundled images are 96 x 96 pixels), a cold disk, storing the activations, bfloat16",
        ],
    )


if __name__ == "__main__":
    main()
