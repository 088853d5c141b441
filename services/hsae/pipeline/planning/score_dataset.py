"""The data sets of a request: the one that trains, the one that selects and scores, and whether it is halved."""

from sqlalchemy.orm import Session, sessionmaker

from hsae.catalog import Dataset, transaction
from hsae.errors import UserError
from hsae.pipeline.inputs.dataset_names import dataset_or_first
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.planning.requests import SubmitRequest
from hsae.settings import Settings
from hsae.split_config import NO_SPLIT, SplitConfig
from hsae.store.objects import ObjectStore


def find_datasets(
    session: Session, name: str | None, score_name: str | None, split: SplitConfig | None
) -> tuple[Dataset, Dataset | None]:
    """The data sets of a request; the second is None where the first one is scored itself.

    Args:
        session: of the catalog.
        name: of the data set that trains; None: the first one registered.
        score_name: of the data set that selects and scores; None: the same.
        split: of the request.

    Raises:
        UserError: a name is unknown, or the two cannot be used together; one line with every mistake.
    """
    if score_name is None:
        return dataset_or_first(session, name), None
    problems = [] if split is not None else [unsplit(score_name)]
    found: list[Dataset] = []
    for given in (name, score_name):
        try:
            found.append(dataset_or_first(session, given))
        except UserError as error:
            problems.append(str(error))
    if len(found) == 2:
        problems += _mismatches(*found)
    if problems:
        raise UserError("; and ".join(dict.fromkeys(problems)))
    dataset, scored = found
    return dataset, scored


def reads_halved(request: SubmitRequest, settings: Settings, sessions: sessionmaker[Session]) -> bool:
    """Whether the request's split halves its data set, from the listing, which is read only if that decides something.

    Raises:
        UserError: the data set is unknown, or its images cannot be split as the request says.
    """
    split = request.split
    if split is None or request.score_dataset is not None or not (request.may_cross_fit or split.fold):
        return False
    with transaction(sessions) as session:
        dataset = dataset_ref(dataset_or_first(session, request.dataset))
    # pyarrow comes with it, a third of a second: what needs no listing does without.
    from hsae.pipeline.inputs.image_split import read_split

    return read_split(ObjectStore.from_settings(settings), dataset, split).is_halved


def unsplit(score_name: str) -> str:
    """What is wrong with a data set that scores and no split, in one line."""
    return (
        f"--split {NO_SPLIT} scores the images that train, and --score-dataset {score_name} scores others: leave one of"
        " them out"
    )


def _mismatches(dataset: Dataset, scored: Dataset) -> list[str]:
    """Why one cannot train and the other score, a line each."""
    if dataset.id == scored.id or dataset.fingerprint == scored.fingerprint:
        same = "" if dataset.id == scored.id else f" (the same images as {scored.name})"
        return [
            f"{dataset.name}{same} cannot both train and score: give --score-dataset other images, or leave it out and"
            " divide the images with --split"
        ]
    if dataset.taxonomy != scored.taxonomy:
        return [
            f"the classes of {dataset.name} are of the taxonomy {dataset.taxonomy}, those of {scored.name} of"
            f" {scored.taxonomy}: register both under one (`hsae-admin dataset add NAME PATH --taxonomy TREE`)"
        ]
    return []
