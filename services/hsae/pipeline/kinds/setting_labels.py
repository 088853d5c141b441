"""Configs in a few words: the settings that differ from the default."""

from pydantic import BaseModel

from hsae.extraction.config import ExtractionConfig
from hsae.hierarchy.config import ProbeConfig, ScoringConfig
from hsae.sae.config import SaeConfig
from hsae.split_config import IN_SAMPLE, ScoreSplit, SplitConfig

_NO_WORDS = {"tokens", "shard_images", "batch_size", "part_images", "max_image_pixels"}
_NO_OWN_SETTINGS = {"kind", "expansion", "imported"}


def sae_label(sae: SaeConfig) -> str:
    """The SAE in a few words: kind, expansion and every setting that is not the default; an imported one, its name."""
    if sae.imported is not None:
        own = [f"{name}={value}" for name, value in sae.model_dump().items() if name not in _NO_OWN_SETTINGS]
        of_origin = f"imported {sae.imported.name}"
        return f"{sae.kind} SAE of {sae.imported.n_latents} latents ({', '.join([of_origin, *own])})"
    chosen = _chosen(sae, SaeConfig(kind=sae.kind), {"kind", "expansion"})
    return f"{sae.kind} SAE x{sae.expansion}" + (f" ({', '.join(chosen)})" if chosen else "")


def seedless_label(sae: SaeConfig) -> str:
    """The SAE without its seed: what SAEs that differ in the seed alone have in common."""
    return sae_label(sae.model_copy(update={"seed": 0}))


def extraction_label(extraction: ExtractionConfig) -> str:
    """Which activations: the tokens, and every setting that is not the default and changes more than rounding."""
    chosen = _chosen(extraction, ExtractionConfig(), _NO_WORDS)
    return extraction.tokens + (f" ({', '.join(chosen)})" if chosen else "")


def scoring_label(scoring: ScoringConfig, split: SplitConfig | ScoreSplit | None) -> str:
    """Every setting of the scoring that differs from the default, in brackets after a space; empty if none does."""
    chosen = _chosen(scoring, ScoringConfig(), set()) + ([IN_SAMPLE] if split is None else _chosen_split(split))
    return f" ({', '.join(chosen)})" if chosen else ""


def probe_label(probe: ProbeConfig, split: SplitConfig | ScoreSplit | None) -> str:
    """Every setting of the probes that differs from the default, in brackets after a space; empty if none does."""
    chosen = _chosen(probe, ProbeConfig(), set()) + ([] if split is None else _chosen_split(split))
    return f" ({', '.join(chosen)})" if chosen else ""


def settings_label(settings: BaseModel) -> str:
    """Every setting of a stage that differs from the default, in brackets after a space; empty if none does."""
    chosen = _chosen(settings, type(settings)(), set())
    return f" ({', '.join(chosen)})" if chosen else ""


def split_suffix(split: SplitConfig | None) -> str:
    """For a training, a split that is not the default, in brackets after a space; empty if it trains on all images."""
    chosen = [] if split is None else _chosen_split(split)
    return f" ({', '.join(chosen)})" if chosen else ""


def _chosen_split(split: SplitConfig | ScoreSplit) -> list[str]:
    return [] if split.label == type(split)().label else [f"split={split.label}"]


def _chosen(config: BaseModel, default: BaseModel, left_out: set[str]) -> list[str]:
    defaults = default.model_dump()
    values = {name: value for name, value in config.model_dump().items() if name not in left_out}
    return [
        f"{name}={'+'.join(map(str, value)) or 'none' if isinstance(value, tuple) else value}"
        for name, value in values.items()
        if name not in defaults or value != defaults[name]
    ]
