"""hsae-admin results: scores from the catalog."""

import click

from hsae.cli.framework.lazy_group import LazyCommand, LazyGroup

_COMMANDS = {
    "absorption": LazyCommand(
        "hsae.cli.results.absorption:absorption",
        "Nodes whose best latent is silent where another latent carries the node's direction.",
    ),
    "compare": LazyCommand(
        "hsae.cli.results.compare:compare", "Compare the analyses A and B, node by node, height by height."
    ),
    "edges": LazyCommand(
        "hsae.cli.results.edges:edges",
        "Pairs of latents (or columns of a control) of which one is the other's parent.",
    ),
    "export": LazyCommand(
        "hsae.cli.results.files.export:export",
        "Write analyses as files: activations, images, taxonomy and every pair's scores, and the SAE with its weights.",
    ),
    "interventions": LazyCommand(
        "hsae.cli.results.interventions:interventions",
        "Edits of latents: what the readouts lost inside the target node, outside it, and by distance from it.",
    ),
    "latents": LazyCommand("hsae.cli.results.latents:latents", "Latents with their labels, best F1 first."),
    "layers": LazyCommand("hsae.cli.results.layers:layers", "Scores of every layer, each SAE beside its controls."),
    "levels": LazyCommand(
        "hsae.cli.results.levels:levels",
        "Linear probe and nearest neighbours of every layer, the classes joined at every depth of the taxonomy.",
    ),
    "maps": LazyCommand(
        "hsae.cli.results.files.maps:maps",
        "Write relevancy maps of latents as pictures: where in its strongest images a latent comes from.",
    ),
    "names": LazyCommand(
        "hsae.cli.results.text.names:names", "What latents are called by text, the greatest cosine first."
    ),
    "nodes": LazyCommand(
        "hsae.cli.results.nodes:nodes", "Nodes of the taxonomy with their best latents, best F1 first."
    ),
    "similar": LazyCommand(
        "hsae.cli.results.images.similar:similar",
        "The images most similar to IMAGE by the latents that fire on both, and the latents that carry it.",
    ),
    "study": LazyCommand(
        "hsae.cli.results.study:study_results",
        "Compare the layers and SAEs of STUDY with each other and with their controls, with confidence intervals.",
    ),
    "tree": LazyCommand(
        "hsae.cli.results.tree:tree",
        "Print what lies under NODE (dog.n.01 or n02084071), every node with its best latent.",
    ),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def results() -> None:
    """Look at scores, and export them."""
