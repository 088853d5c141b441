"""The jobs that a study needs after its extraction: each stage makes its request from what the study asks."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from hsae.frozen_model import FrozenModel
from hsae.pipeline.kinds.extract import EXTRACT
from hsae.pipeline.kinds.registry import stages
from hsae.pipeline.kinds.stage import Asked, Scope
from hsae.pipeline.planning.planned_job import WantedJob
from hsae.sae.config import SaeConfig
from hsae.split_config import SplitConfig


def wanted_jobs(study: Asked, saes: Sequence[SaeConfig], splits: Sequence[SplitConfig | None]) -> list[WantedJob]:
    """The jobs of all layers and SAEs in the plan's order: every job comes after those that it needs.

    Args:
        study: what the study asks.
        saes: its SAEs.
        splits: of cross-fitting both folds, else its one split: each has jobs of its own for every layer and SAE.
    """
    activation_key = EXTRACT.ask(study).activation_key
    scored_key = None if study.score_dataset is None else EXTRACT.ask(study.of_scored()).activation_key
    found: list[WantedJob] = []
    of_saes: list[list[list[Asked]]] = []  # of every layer and split, the SAEs with the keys of their jobs
    for layer in study.layers:
        whole = replace(
            study,
            layers=(layer,),
            scored_key=None if scored_key is None else scored_key(layer),
            keys={EXTRACT.kind: (activation_key(layer),)},
        )
        of_splits = [_of_layer(replace(whole, split=split), saes) for split in splits]
        found += _told_apart([(split, jobs) for split, (jobs, _) in zip(splits, of_splits, strict=True)])
        of_saes.append([asked for _, asked in of_splits])
    found += _told_apart(
        [(split, _of_settings(layers)) for split, layers in zip(splits, zip(*of_saes, strict=True), strict=True)]
    )
    activations = {EXTRACT.kind: tuple(activation_key(layer) for layer in study.layers)}
    return found + _jobs("study", replace(study, keys=_with(activations, found)))


def _of_layer(layer: Asked, saes: Sequence[SaeConfig]) -> tuple[list[WantedJob], list[Asked]]:
    """The jobs of one layer and split, and its SAEs with the keys of their jobs."""
    found = _jobs("layer", layer)
    layer = replace(layer, keys=_with(layer.keys, found))
    of_saes = []
    for sae in saes:
        asked = replace(layer, sae=sae)
        jobs = _jobs("sae", asked)
        found += jobs
        of_saes.append(replace(asked, keys=_with(asked.keys, jobs)))
    return found, of_saes


def _of_settings(layers: Sequence[Sequence[Asked]]) -> list[WantedJob]:
    """The jobs of the SAEs of one setting in all layers, from the SAEs of each layer."""
    found = []
    for of_setting in zip(*layers, strict=True):
        *others, deepest = sorted(of_setting, key=lambda asked: asked.layers)
        found += _jobs("setting", replace(deepest, others=tuple(others)))
    return found


def _told_apart(of_splits: Sequence[tuple[SplitConfig | None, Sequence[WantedJob]]]) -> list[WantedJob]:
    """Every job once, as not all depend on the split; those of one half with the half that they score in the title."""
    times = Counter(job.request.key for _, jobs in of_splits for job in jobs)
    found: dict[str, WantedJob] = {}
    for split, jobs in of_splits:
        for job in jobs:
            is_of_half = split is not None and (split.fold or times[job.request.key] < len(of_splits))
            found.setdefault(job.request.key, job.of_half(split.scored_half) if split and is_of_half else job)
    return list(found.values())


def n_wanted_jobs(n_layers: int, saes: Collection[SaeConfig], own: Mapping[str, FrozenModel]) -> int:
    """Number of jobs for so many layers, for SAEs, and the settings that only one stage has."""
    wanted = [stage for stage in stages() if stage.is_wanted(own)]
    times: dict[Scope | None, int] = {"sae": n_layers, "setting": 1}
    of_saes = sum(times.get(stage.scope(own), 0) * stage.is_for(sae) for stage in wanted for sae in saes)
    return n_layers * sum(stage.scope(own) == "layer" for stage in wanted) + of_saes


def _jobs(scope: Scope, asked: Asked) -> list[WantedJob]:
    found: list[WantedJob] = []
    for stage in stages():
        is_for = asked.sae is None or stage.is_for(asked.sae)
        if stage.scope(asked.own) == scope and is_for and stage.is_wanted(asked.own):
            found.append(WantedJob.of(stage, replace(asked, keys=_with(asked.keys, found))))
    return found


def _with(keys: Mapping[str, tuple[str, ...]], jobs: Sequence[WantedJob]) -> Mapping[str, tuple[str, ...]]:
    found = dict(keys)
    for job in jobs:
        found[job.kind] = (*found.get(job.kind, ()), job.request.key)
    return found
