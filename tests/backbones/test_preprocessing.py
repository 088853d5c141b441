"""Images one by one against the processor of transformers on whole batches: the same bits, for every supported type."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
import transformers

from hsae.backbones.architectures import ARCHITECTURES
from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.backbones.preprocessing import MAX_SCALED_PIXELS, Preprocessing, processor_content
from hsae.datasets import ImageFile, open_image
from hsae.demo import backbone_folder
from hsae.errors import PreprocessingError, UserError

from .conftest import MODELS, edit_json

MAX_PIXELS = 10**7
SIZES = ((640, 480), (480, 640), (50, 41), (17, 300), (224, 224), (640, 480))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Noise of several sizes in every sort: turned, CMYK, transparent, grey, palette, 16-bit."""
    folder = tmp_path_factory.mktemp("files")
    generator = np.random.default_rng(5)
    paths: list[Path] = []

    def add(image: PIL.Image.Image, kind: str, **options: object) -> None:
        paths.append(folder / f"{len(paths)}.{kind.lower()}")
        image.save(paths[-1], kind, **options)

    for width, height in SIZES:
        rgba = PIL.Image.fromarray(generator.integers(0, 256, (height, width, 4), dtype=np.uint8), "RGBA")
        rgb = rgba.convert("RGB")
        for orientation in (1, 3, 6):
            exif = PIL.Image.Exif()
            exif[0x0112] = orientation
            add(rgb, "JPEG", exif=exif)
        add(rgb.convert("CMYK"), "JPEG")
        add(rgba, "PNG")
        add(rgb.convert("P"), "PNG")
        add(PIL.Image.fromarray(generator.integers(0, 65536, (height, width), dtype=np.uint16)), "TIFF")
    return paths


def as_a_batch(processor: object, files: list[Path]) -> torch.Tensor:
    """What transformers gives for whole, decoded images in one call."""
    images = [open_image(path, max_pixels=MAX_PIXELS) for path in files]
    values: torch.Tensor = processor(images=images, return_tensors="pt")["pixel_values"]  # type: ignore[operator]
    return values


def one_by_one(preprocessing: Preprocessing | Callable[..., torch.Tensor], files: list[Path]) -> torch.Tensor:
    parts = []
    for path in files:
        with path.open("rb") as stream, ImageFile(stream, path.name, max_pixels=MAX_PIXELS) as file:
            parts.append(preprocessing([file.decode()]))
    return torch.cat(parts)


# Gives patches of any number, not images: hsae makes squares of them with another one. And one with steps of its own.
_OTHERS = {"Siglip2ImageProcessorPil", "BeitImageProcessorPil"}


@pytest.mark.parametrize("name", sorted({processor for *_, processor in MODELS.values()} - _OTHERS))
@pytest.mark.parametrize("settings", [{}, {"resample": 1, "do_normalize": False}], ids=["default", "lanczos"])
def test_one_by_one_is_the_batch(name: str, settings: dict, files: list[Path], tmp_path: Path) -> None:
    processor = getattr(transformers, name)(**settings)  # of the size that published models have
    processor.save_pretrained(tmp_path)
    preprocessing = Preprocessing(processor_content(tmp_path), "a model", name)
    assert preprocessing._scaling is not None, "resized by us, in little memory"
    assert torch.equal(one_by_one(preprocessing, files), as_a_batch(processor, files))
    images = [open_image(path, max_pixels=MAX_PIXELS) for path in files]
    assert torch.equal(preprocessing(images), as_a_batch(processor, files))


def test_every_supported_type_has_a_processor_that_is_compared() -> None:
    compared = {name.removesuffix("Pil") for *_, name in MODELS.values() if name not in _OTHERS}
    # That of torchvision alone, which is not installed here, and those that resize in their own way: they get each
    # image whole.
    whole = {"DINOv3ViTImageProcessor", "ConvNextImageProcessor", "BeitImageProcessor"}
    assert {each.processor for each in ARCHITECTURES.values()} - compared == whole


@pytest.mark.parametrize(
    "settings",
    [
        {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}},
        {"size": {"shortest_edge": 256, "longest_edge": 400}, "crop_size": {"height": 224, "width": 224}},
        {"size": {"height": 300, "width": 200}, "crop_size": {"height": 224, "width": 224}},
        {"do_resize": False, "crop_size": {"height": 64, "width": 48}},
    ],
)
def test_rules_of_size(settings: dict, files: list[Path], tmp_path: Path) -> None:
    processor = transformers.BitImageProcessorPil(**settings)
    processor.save_pretrained(tmp_path)
    preprocessing = Preprocessing(processor_content(tmp_path), "a model", "BitImageProcessor")
    assert (preprocessing._scaling is None) == (settings.get("do_resize") is False)
    assert torch.equal(one_by_one(preprocessing, files), as_a_batch(processor, files))


def test_a_processor_that_resizes_in_its_own_way_gets_the_whole_image(files: list[Path], tmp_path: Path) -> None:
    processor = transformers.ConvNextImageProcessorPil(size={"shortest_edge": 224})
    processor.save_pretrained(tmp_path)
    preprocessing = Preprocessing(processor_content(tmp_path), "a model", "ConvNextImageProcessor")
    assert preprocessing._scaling is None
    assert torch.equal(one_by_one(preprocessing, files), as_a_batch(processor, files))
    assert preprocessing.needed_bytes((100, 10)) >= 1000 * 12


def test_from_what_size_an_image_can_be_resized_as_well() -> None:
    def enough(
        original: tuple[int, int], processor: str = "BitImageProcessor", /, **settings: object
    ) -> tuple[int, int]:
        content = getattr(transformers, f"{processor}Pil")(**settings).to_dict()
        return Preprocessing(content, "a model", processor).enough(original)

    crop = {"crop_size": {"height": 224, "width": 224}}
    assert enough((4000, 3000), size={"shortest_edge": 256}, **crop) == (2 * 341, 2 * 256)
    assert enough((300, 400), size={"shortest_edge": 256}, **crop) == (2 * 256, 2 * 341)
    assert enough((4000, 3000), size={"height": 300, "width": 200}, **crop) == (2 * 200, 2 * 300)
    # It makes the shorter side 256 long, and crops that to 224.
    assert enough((4000, 3000), "ConvNextImageProcessor", size={"shortest_edge": 224}) == (3 * 224, 3 * 224)
    with pytest.raises(UserError, match="^a model: its image processor does not resize images"):
        enough((4000, 3000), do_resize=False, **crop)
    with pytest.raises(PreprocessingError, match="scales to"):
        enough((5000, 1), size={"shortest_edge": 500}, **crop)


def test_the_activations_are_those_of_the_batch(files: list[Path]) -> None:
    backbone = Backbone.load(inspect_backbone(str(backbone_folder())), layers=[0, 2], device=torch.device("cpu"))
    processor = transformers.AutoImageProcessor.from_pretrained(backbone_folder(), backend="pil")
    expected = backbone.activations(as_a_batch(processor, files[:16]), "patches")
    found = backbone.activations(one_by_one(backbone.pixel_values, files[:16]), "patches")
    assert all(torch.equal(found[layer], expected[layer]) for layer in (0, 2))


def test_what_an_image_becomes_when_it_is_scaled_is_bounded(tmp_path: Path) -> None:
    transformers.BitImageProcessorPil(size={"shortest_edge": 1500}, crop_size=32).save_pretrained(tmp_path)
    preprocessing = Preprocessing(processor_content(tmp_path), "a model", "BitImageProcessor")
    assert preprocessing.needed_bytes((8, 8)) >= 1500 * 1500 * 4
    with pytest.raises(
        PreprocessingError, match="^540 x 9 pixels, which .* scales to 90000 x 1500: not within 1 to 134"
    ):
        preprocessing.needed_bytes((540, 9))
    with pytest.raises(PreprocessingError, match="scales to 1500 x 90000"):
        preprocessing([PIL.Image.new("RGB", (9, 540))])
    edit_json(tmp_path / "preprocessor_config.json", size={"shortest_edge": 518})
    usual = Preprocessing(processor_content(tmp_path), "a model", "BitImageProcessor")
    usual.needed_bytes((500, 1))  # so that a check, which knows no model, finds all that an extraction skips
    assert MAX_SCALED_PIXELS >= 500 * 518 * 518


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (ValueError("no\n good"), "the model's preprocessing failed: no good"),
        (KeyError("x"), "the model's preprocessing failed: 'x'"),
        (MemoryError(), None),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."), None),
    ],
)
def test_what_the_processor_raises(error: Exception, raised: str | None, tmp_path: Path) -> None:
    transformers.BitImageProcessorPil().save_pretrained(tmp_path)
    preprocessing = Preprocessing(processor_content(tmp_path), "a model", "BitImageProcessor")

    def fail(**_: object) -> None:
        raise error

    preprocessing._processor = fail
    preprocessing._colours = None  # which spares the processor
    with pytest.raises(PreprocessingError if raised else MemoryError) as caught:
        preprocessing([PIL.Image.new("RGB", (9, 9))])
    if raised:
        assert str(caught.value) == raised
