"""hsae-admin results similar: the images most similar to one, and the latents that carry it."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from hsae.catalog import transaction
from hsae.catalog.queries.analyses import find_analysis
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.framework.study_choice import say
from hsae.cli.printing.better import print_marked_rows
from hsae.cli.printing.output import print_json
from hsae.cli.results.filters import in_sample

_COLUMNS = {
    "image": "image", "cosine": "cosine", "synset": "class", "same_class": "same", "bits": "bits",
    "carried_by": "carried by", "path": "path",
}  # fmt: skip
_IMPORTANCE = ("image", "cosine", "synset", "carried_by", "same_class", "bits", "path")
_ARMS = {"latents": "by latents", "activations": "by activations", "chance": "at random"}


@click.command()
@click.argument("image")
@click.option("--analysis", "analysis_id", type=int, help="By the latents of this analysis.  [default: the latest]")
@click.option("--limit", type=click.IntRange(1, 10**6), default=5, show_default=True, help="At most so many images.")
@click.option(
    "--latents", "n_latents", type=click.IntRange(0, 10**6), default=3, show_default=True,
    help="Of how many latents the share of each similarity is told.",
)  # fmt: skip
@json_option
@pass_connections
def similar(
    connections: Connections, /, image: str, analysis_id: int | None, limit: int, n_latents: int, as_json: bool
) -> None:
    """The images most similar to IMAGE by the latents that fire on both, and the latents that carry it.

    IMAGE is a number of the data set's listing, as the explorer has it, or an image file. carried by: the share of the
    cosine that a latent has, the latent, its label. bits: what both classes have in common, 0 where that is the root.
    Below stand the same search on the activations, and what random images have in common with IMAGE.
    """
    with transaction(connections.sessions) as session:
        about = find_analysis(session, analysis_id)
    # torch comes with it: help, and an unknown analysis, do without.
    from hsae.api.service.analysis import Analysis

    found = Analysis(connections, about).similar(
        int(image) if image.isdecimal() else image, k=limit, n_latents=n_latents
    )
    if as_json:
        print_json(
            {
                "analysis_id": about["id"],
                "summary": found.summary,
                "images": found.rows,
                "by_activations": found.by_activations,
            }
        )
        return
    if analysis_id is None:
        say(f"Analysis {about['id']}, the latest.", quiet=False)
    title = in_sample(connections, [{"analysis_id": about["id"]}])
    rows = [row | {"carried_by": _carried_by(row["latents"])} for row in found.rows]
    print_marked_rows(rows, _COLUMNS, as_json=False, empty="No image shares a latent with it.", title=title,
                      importance=_IMPORTANCE)  # fmt: skip
    for line in _summary(found.summary):
        click.echo(line)


def _carried_by(latents: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{each['share']:.0%} {each['latent']} {each['synset'] or 'no label'}" for each in latents)


def _summary(told: Mapping[str, Any]) -> list[str]:
    lines = []
    if told["synset"] is not None:
        lines.append(f"Image {told['image']} is of {told['synset']}; {told['n_candidates']} others were compared.")
        for what, name, form in (("same_class", "Of the same class", ".1%"), ("bits", "Bits in common", ".2f")):
            values = {words: told[f"{what}_{arm}"] for arm, words in _ARMS.items()}
            shown = [f"{value:{form}} {words}" for words, value in values.items() if value is not None]
            lines += [f"{name}: {', '.join(shown)}."] if shown else []
    if told["found_by_both"] is not None:  # else no image shares a latent with it
        lines.append(
            f"Found by both searches: {told['found_by_both']:.0%}, {told['found_by_both_chance']:.1%} by chance."
        )
    return lines
