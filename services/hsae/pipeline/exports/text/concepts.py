"""Search for a concept: the latents whose stored directions are nearest to any text."""

from collections.abc import Callable
from dataclasses import replace

import torch
from sqlalchemy.orm import Session

from hsae.catalog.findings.text.listed import listing
from hsae.catalog.queries.conditions import Row
from hsae.catalog.queries.score_filter import ScoreFilter
from hsae.errors import UserError
from hsae.settings import Settings
from hsae.store.keys import directions_key
from hsae.store.objects import ObjectStore
from hsae.store.tensors import get_tensors
from hsae.text.models import find_text_model
from hsae.text.names import concept_cosines
from hsae.text.tower import TextTower
from hsae.text.vocabulary import Entry

_OF_THE_SET = ("names_key", "directions_sha256", "text_revision", "names_config")


def concept_search(concept: str, settings: Settings, store: ObjectStore) -> Callable[[Session, ScoreFilter], list[Row]]:
    """The query of a search, for `filtered_rows`: rows of names, each with its cosine `concept`, the greatest first.

    The text tower that named the latents embeds the concept, in the set's own templates.

    Args:
        concept: a word or a phrase.
        settings: where models are cached.
        store: where the directions are.
    """

    def query(session: Session, wanted: ScoreFilter) -> list[Row]:
        if not concept.strip():
            raise UserError("the concept is empty: give a word or a phrase, such as striped")
        rows = listing("names", sets=True)(session, replace(wanted, limit=None))
        by_set: dict[int, list[Row]] = {}
        for row in rows:
            by_set.setdefault(row["name_set_id"], []).append(row)
        towers: dict[tuple[str, str], TextTower] = {}
        for of_set in by_set.values():
            _add_cosines(of_set, " ".join(concept.split()), towers, settings, store)
        found = sorted(rows, key=lambda row: -row["concept"])[: wanted.limit]
        return [{name: value for name, value in row.items() if name not in _OF_THE_SET} for row in found]

    return query


def _add_cosines(
    rows: list[Row], concept: str, towers: dict[tuple[str, str], TextTower], settings: Settings, store: ObjectStore
) -> None:
    """Add the cosine to the rows of one set."""
    first = rows[0]
    model = (first["text_model"], first["text_revision"])
    config = first["names_config"]
    if model not in towers:
        name, revision = model
        found = find_text_model(name, revision=revision, tokenizer=config["tokenizer"], cache_dir=settings.model_cache)
        towers[model] = TextTower.load(found, torch.device("cpu"), settings.model_cache)
    tower = towers[model]
    if not tower.knows(concept):
        raise UserError(f"{first['text_model']} knows no word of {concept!r}: give another one")
    sha256 = first["directions_sha256"]
    tensors, _ = get_tensors(store, directions_key(first["names_key"], sha256), sha256=sha256)
    text = tower.ensembled([Entry(concept, (concept,), "", -1).texts(config["templates"])])[0]
    cosines = concept_cosines(tensors["directions"], text, tensors["mean"])
    of_latent = dict(zip(tensors["latents"].tolist(), cosines.tolist(), strict=True))
    for row in rows:
        row["concept"] = of_latent[row["latent"]]
