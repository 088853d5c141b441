"""The data sets that the options of `submit` mean: one that trains, and perhaps another one that is scored."""

from dataclasses import dataclass

from hsae.catalog import transaction
from hsae.errors import UserError
from hsae.pipeline.connections import Connections
from hsae.pipeline.planning.score_dataset import find_datasets, unsplit
from hsae.pipeline.submission.dataset_choice import Choice, choose_dataset
from hsae.split_config import SplitConfig


@dataclass(frozen=True, slots=True)
class DatasetChoices:
    """What `--dataset` and `--score-dataset` mean; `scores` is None where the first is scored itself."""

    trains: Choice
    scores: Choice | None = None


def choose_datasets(
    connections: Connections,
    given: tuple[str | None, str | None],
    split: SplitConfig | None,
    *,
    register: bool,
) -> DatasetChoices:
    """Find the data sets, without reading an image.

    Args:
        connections: the service.
        given: the values of both options.
        split: of the request.
        register: whether images that are not registered may be.

    Raises:
        UserError: as `choose_dataset`, or the two cannot be used together; one line with every mistake.
    """
    name, score_name = given
    if score_name is None:
        return DatasetChoices(choose_dataset(connections, name, register=register))
    problems = [] if split is not None else [unsplit(score_name)]
    found: list[Choice] = []
    for option, value in (("--dataset", name), ("--score-dataset", score_name)):
        try:
            found.append(choose_dataset(connections, value, register=register, option=option))
        except UserError as error:
            problems.append(str(error))
    if len(found) == 2:
        trains, scores = found
        if trains.location is not None and trains.location == scores.location:
            problems.append(f"{score_name} cannot both train and score: give --score-dataset other images")
        elif (pair := _registered_pair(*found, register=register)) is not None:
            try:
                with transaction(connections.sessions) as session:
                    find_datasets(session, *pair, split or SplitConfig())
            except UserError as error:
                problems.append(str(error))
    if problems:
        raise UserError("; and ".join(dict.fromkeys(problems)))
    return DatasetChoices(*found)


def _registered_pair(trains: Choice, scores: Choice, *, register: bool) -> tuple[str | None, str] | None:
    """The names of both data sets where it is known that these are meant; a folder may have other images by now."""
    names = [
        choice.name if choice.location is None else choice.registered_as[0]
        for choice in (trains, scores)
        if choice.location is None or not register
    ]
    return None if len(names) < 2 or names[1] is None else (names[0], names[1])
