"""hsae-admin dataset add."""

from pathlib import Path
from typing import Any, get_args

import click

from hsae.cli.datasets.labels import draft_mapping
from hsae.cli.datasets.report import print_registration, registration_json
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.output import print_json
from hsae.datasets import WhenRead
from hsae.pipeline.submission.registration import add_dataset
from hsae.taxonomy import SenseChoice


@click.command()
@click.argument("name")
@click.argument("path", type=click.Path())
@click.option("--mapping", type=click.Path(path_type=Path), help="CSV folder,synset for folders that are no synsets.")
@click.option(
    "--senses",
    type=click.Choice(get_args(SenseChoice)),
    help="Of a word with several senses take the one in the hierarchy of ImageNet-1k's classes.",
)
@click.option("--write-mapping", "draft", type=click.Path(path_type=Path), metavar="FILE",
              help="Register nothing; write a CSV for --mapping, filled in as far as labels are clear.")  # fmt: skip
@click.option("--taxonomy", type=click.Path(path_type=Path),
              help="Instead of WordNet: CSV child,parent or of ranks, or a folder named by rank paths.")  # fmt: skip
@click.option("--checksums", type=click.Choice(get_args(WhenRead)),
              help="When files are read for their checksums; at the extraction, large sets are read once.")  # fmt: skip
@json_option
@pass_connections
def add(
    connections: Connections,
    /,
    name: str,
    path: str,
    draft: Path | None,
    as_json: bool,
    checksums: WhenRead | None,
    **labelling: Any,
) -> None:
    """Register the images at PATH under NAME.

    PATH is a folder with one folder per class, named by wnid (n02084071), synset (dog.n.01) or a word with one sense
    (golden_retriever), or a CSV path,label with a row for every label of an image, and a third column group where
    images belong together; or Parquet or Arrow files, tars on a disk or a server, a data set of the hub
    (hf:owner/name:train). Where words have several senses, --write-mapping writes a CSV to choose them in.
    The first data set registered is the default of `submit`.
    """
    if draft is not None:
        draft_mapping(connections, name, path, draft, as_json=as_json, **labelling)
        return
    registered = add_dataset(connections, name, path, checksums=checksums, **labelling)
    if as_json:
        print_json(registration_json(registered))
    else:
        print_registration(registered)
