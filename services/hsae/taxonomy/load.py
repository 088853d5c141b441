"""The one way to a taxonomy: a custom tree where the user gives one, WordNet's nouns otherwise."""

from pathlib import Path

from hsae.taxonomy.custom_tree import CustomTree
from hsae.taxonomy.taxonomy import Taxonomy


def load_taxonomy(custom: Path | None = None, *, wordnet: Path | None = None) -> Taxonomy:
    """Load a taxonomy; takes about two seconds for WordNet (most of it the import of NLTK).

    custom: a CSV with the header child,parent: a tree or DAG with one root.
    wordnet: a folder with another WordNet 3.0 noun database, data.noun and index.noun (HSAE_WORDNET); without
        it NLTK's own data (corpora/wordnet) if that is 3.0, else the database shipped with hsae.

    Raises `UserError` for a CSV that is no rooted DAG and for a folder that is no WordNet 3.0.
    """
    if custom is not None:
        return CustomTree.from_csv(custom)
    from hsae.taxonomy.wordnet_nouns import WordNetNouns  # here, as importing NLTK takes a second

    return WordNetNouns.load(wordnet)
