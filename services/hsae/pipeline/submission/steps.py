"""The steps of a submit after its request is made: find the data sets, check, warn, enter, notify the workers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hsae.backbones.spec import BackboneSpec
from hsae.catalog import Dataset, transaction
from hsae.pipeline.connections import Connections
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.planning.embeddings import require_set
from hsae.pipeline.planning.requests import SubmitRequest
from hsae.pipeline.planning.score_dataset import find_datasets
from hsae.pipeline.planning.settled import settled
from hsae.pipeline.planning.submit import Preview, check_model
from hsae.pipeline.planning.training_rows import few_rows_warning
from hsae.pipeline.submission.dataset_choice import settle_dataset
from hsae.pipeline.submission.dataset_choices import DatasetChoices, choose_datasets
from hsae.pipeline.submission.imported_use import imported_notes
from hsae.pipeline.submission.sae_choice import check_given
from hsae.split_config import ScoreSplit, few_classes_note

if TYPE_CHECKING:
    from hsae.datasets.split import ImageSplit
    from hsae.pipeline.submission.registration import Registration
    from hsae.sae.exchange.read import ReadSae

_USUAL_MEMORY = 14e9
"""Bytes that jobs of a worker of the compose file may take; the rest of its 16 GB is for what else runs there."""

OnRegistered = Callable[[str, "Registration"], object]
"""Called with `dataset` or `score_dataset`, and what was registered for it."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that can be entered.

    Attributes:
        request: with the names of its data sets.
        checked: what `check_model` gave for it.
        split: the parts of the scored images; None in-sample.
        notes: what a user should know of the split and of imported SAEs, a sentence each.
    """

    request: SubmitRequest
    checked: tuple[BackboneSpec, tuple[int, ...]]
    split: "ImageSplit | None" = None
    notes: list[str] = field(default_factory=list)

    @property
    def is_halved(self) -> bool:
        """Whether the split halves the images."""
        return self.split is not None and self.split.is_halved


def prepare(
    connections: Connections,
    request: SubmitRequest,
    given: tuple[str | None, str | None] | None,
    *,
    register: bool = True,
    on_registered: OnRegistered = lambda field, registration: None,
) -> Prepared:
    """Check a request; whatever can be refused is refused before anything is entered.

    Args:
        connections: the service.
        request: the request.
        given: for the data set that trains and the one that scores a registered name, or the path of a folder or CSV.
            None of the first: the default; None of the second: no other one. None of both: the request has the names.
        register: whether images that are not registered may be. Without it nothing is entered at all.
        on_registered: called as soon as images were registered.

    Raises:
        UserError: the request is not possible.
    """
    if register:
        connections.notifier, connections.store  # noqa: B018
    unregistered: list[tuple[ReadSae, str]] = []
    if request.sae_from:
        check_given(connections, request.sae_from)
        # torch comes with it, seconds: a submit without imported SAEs does without.
        from hsae.pipeline.submission.imported_saes import register_sae, with_imported

        request, unregistered = with_imported(connections, request)
    choices = None
    if given is None:
        with transaction(connections.sessions) as session:
            find_datasets(session, request.dataset, request.score_dataset, request.split)
    else:
        choices = choose_datasets(connections, given, request.split, register=register)
    with transaction(connections.sessions) as session:
        require_set(session, request.scoring.embeddings)
    request = settled(request, connections.settings)
    checked = check_model(request, connections.settings)
    for found, source in unregistered if register else ():
        register_sae(connections, found, source)
    if choices is not None:
        request = _settled(connections, request, choices, register=register, on_registered=on_registered)
    split, notes = _split(connections, request)
    return Prepared(request, checked, split, [*imported_notes(request, checked[0].name), *notes])


def _settled(
    connections: Connections,
    request: SubmitRequest,
    choices: DatasetChoices,
    *,
    register: bool,
    on_registered: OnRegistered,
) -> SubmitRequest:
    """The request with the names of its data sets."""
    for field_name, choice in (("dataset", choices.trains), ("score_dataset", choices.scores)):
        if choice is None:
            continue
        name, registration = settle_dataset(connections, choice, register=register)
        request = request.model_copy(update={field_name: name})
        if registration is not None:
            on_registered(field_name, registration)
    return request


def _split(connections: Connections, request: SubmitRequest) -> "tuple[ImageSplit | None, list[str]]":
    """The parts of the scored images, None in-sample; and what a user should know of them.

    Raises:
        UserError: the images cannot be split, or the data sets cannot be used together.
    """
    with transaction(connections.sessions) as session:
        found = find_datasets(session, request.dataset, request.score_dataset, request.split)
        dataset, scored = (None if row is None else dataset_ref(row) for row in found)
        few = few_classes_note(found[0].n_classes)
    if request.split is None or dataset is None:
        return None, [] if few is None else [few]
    # pyarrow comes with it, a third of a second: what is refused before does without.
    from hsae.pipeline.inputs.image_split import read_split, read_split_apart

    if scored is None:
        split = read_split(connections.store, dataset, request.split)
        is_cross_fitted = len(request.splits(is_halved=split.is_halved)) > 1
        return split, list(split.notes(cross_fitted=is_cross_fitted))
    return read_split_apart(connections.store, dataset, scored, ScoreSplit.of(request.split))


def plan_warnings(connections: Connections, prepared: Prepared, plan: Preview) -> list[str]:
    """A line each about SAEs that are likely weak, and jobs that need more memory than workers usually have."""
    found = (_rows_warning(connections, prepared, plan), _memory_warning(plan))
    return [warning for warning in found if warning is not None]


def _memory_warning(plan: Preview) -> str | None:
    """About new jobs that a worker of the compose file would be killed for; None for none."""
    most = max((job.estimate.memory_bytes for job in plan.jobs), default=0)
    if most <= _USUAL_MEMORY:
        return None
    return (
        f"an analysis takes about {most / 1e9:.0f} GB of memory, and its worker is killed where it has less: a worker"
        " of the compose file has 16 GB (HSAE_CPU_WORKER_MEMORY; HSAE_GPU_WORKER_MEMORY for analyses of the queue gpu)"
    )


def _rows_warning(connections: Connections, prepared: Prepared, plan: Preview) -> str | None:
    """One line about SAEs with more latents than training rows, whose results are likely weak; None for none."""
    split = prepared.split
    if split is None or not split.trains:
        with transaction(connections.sessions) as session:
            n_images = session.get_one(Dataset, plan.dataset.id).n_images
    else:
        n_images = int(split.train.sum())
    return few_rows_warning(prepared.request, plan.model, n_images)
