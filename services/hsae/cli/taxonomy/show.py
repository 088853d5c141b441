"""hsae-admin taxonomy show."""

from pathlib import Path

import click

from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.output import print_json
from hsae.errors import UserError
from hsae.taxonomy import Taxonomy, load_taxonomy


@click.command()
@click.argument("node")
@click.option("--taxonomy", "tree", type=click.Path(path_type=Path),
              help="Instead of WordNet: CSV child,parent or of ranks, or a folder named by rank paths.")  # fmt: skip
@json_option
@pass_connections
def show(connections: Connections, node: str, tree: Path | None, as_json: bool) -> None:
    """Show NODE: its meaning, its hypernyms up to the root, its direct hyponyms.

    NODE is a synset's name (dog.n.01), a wnid (n02084071) or a word with one sense.
    """
    loaded = load_taxonomy(tree, wordnet=connections.settings.wordnet)
    found = loaded.interpret(node)
    if found.synset is None:
        raise UserError(found.message)
    synset = found.synset
    parents = [loaded.synset(parent) for parent in loaded.hypernyms(synset.id)]
    children = [loaded.synset(child) for child in loaded.hyponyms(synset.id)]
    paths = _paths_to_root(loaded, synset.id)
    if as_json:
        print_json(
            {
                "taxonomy": loaded.name,
                "wnid": synset.id,
                "synset": synset.name,
                "lemmas": list(synset.lemmas),
                "definition": synset.definition,
                "hypernyms": [{"wnid": s.id, "synset": s.name} for s in parents],
                "hyponyms": [{"wnid": s.id, "synset": s.name} for s in children],
                "paths": [[loaded.synset(node_id).name for node_id in path] for path in paths],
            }
        )
        return
    click.echo(f"{synset.name}  {synset.id}  ({loaded.name})")
    if synset.definition:
        click.echo(f"  {', '.join(synset.lemmas)}: {synset.definition}")
    for path in paths:
        click.echo(
            "  is a  " + " < ".join(loaded.synset(node_id).name for node_id in path[1:])
            if path[1:]
            else "  is the root"
        )
    click.echo(f"  {len(children)} direct hyponyms" + (":" if children else ""))
    for child in children:
        click.echo(f"    {child.name}  {child.id}")


def _paths_to_root(loaded: Taxonomy, node_id: str) -> list[list[str]]:
    parents = loaded.hypernyms(node_id)
    if not parents:
        return [[node_id]]
    return [[node_id, *rest] for parent in parents for rest in _paths_to_root(loaded, parent)]
