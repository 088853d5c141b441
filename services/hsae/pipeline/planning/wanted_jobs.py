"""The jobs that a study needs after its extraction: each stage makes its request from what the study asks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hsae.frozen_model import FrozenModel
from hsae.pipeline.kinds.extract import EXTRACT
from hsae.pipeline.kinds.registry import stages
from hsae.pipeline.kinds.stage import Asked, Scope
from hsae.pipeline.planning.planned_job import WantedJob
from hsae.sae.config import SaeConfig


def wanted_jobs(study: Asked, saes: Sequence[SaeConfig]) -> list[WantedJob]:
    """The jobs of all layers and SAEs in the plan's order: every job comes after those that it needs."""
    activation_key = EXTRACT.ask(study).activation_key
    scored_key = None if study.score_dataset is None else EXTRACT.ask(study.of_scored()).activation_key
    found: list[WantedJob] = []
    for layer in study.layers:
        of_layer = replace(
            study,
            layers=(layer,),
            scored_key=None if scored_key is None else scored_key(layer),
            keys={EXTRACT.kind: (activation_key(layer),)},
        )
        jobs = _jobs("layer", of_layer)
        found += jobs
        of_layer = replace(of_layer, keys=_with(of_layer.keys, jobs))
        for sae in saes:
            found += _jobs("sae", replace(of_layer, sae=sae))
    activations = {EXTRACT.kind: tuple(activation_key(layer) for layer in study.layers)}
    return found + _jobs("study", replace(study, keys=_with(activations, found)))


def n_wanted_jobs(n_layers: int, n_saes: int, own: Mapping[str, FrozenModel]) -> int:
    """Number of jobs for so many layers and SAEs, and the settings that only one stage has."""
    scopes = [stage.per for stage in stages() if stage.is_wanted(own)]
    return n_layers * (scopes.count("layer") + scopes.count("sae") * n_saes)


def _jobs(scope: Scope, asked: Asked) -> list[WantedJob]:
    found: list[WantedJob] = []
    for stage in stages():
        if stage.per == scope and stage.is_wanted(asked.own):
            found.append(WantedJob.of(stage, replace(asked, keys=_with(asked.keys, found))))
    return found


def _with(keys: Mapping[str, tuple[str, ...]], jobs: Sequence[WantedJob]) -> Mapping[str, tuple[str, ...]]:
    found = dict(keys)
    for job in jobs:
        found[job.kind] = (*found.get(job.kind, ()), job.request.key)
    return found
