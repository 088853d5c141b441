"""The one way to a taxonomy: a custom tree where the user gives one, WordNet's nouns otherwise."""

from pathlib import Path

from hsae.errors import UserError
from hsae.taxonomy.csv_rows import iterate_csv
from hsae.taxonomy.custom_tree import CustomTree
from hsae.taxonomy.rank_paths import CSV_HEADERS, RankPaths
from hsae.taxonomy.taxonomy import Taxonomy


def load_taxonomy(custom: Path | None = None, *, wordnet: Path | None = None) -> Taxonomy:
    """Load a taxonomy; takes about two seconds for WordNet (most of it the import of NLTK).

    custom: a CSV with the header child,parent: a tree or DAG with one root; a CSV whose columns are ranks from coarse
        to fine, one row per leaf; or a folder of class folders that carry their rank path in their names.
    wordnet: a folder with another WordNet 3.0 noun database, data.noun and index.noun (HSAE_WORDNET); without
        it NLTK's own data (corpora/wordnet) if that is 3.0, else the database shipped with hsae.

    Raises `UserError` for what is no such tree and for a folder that is no WordNet 3.0.
    """
    if custom is not None:
        return _load_custom(custom)
    from hsae.taxonomy.wordnet_nouns import WordNetNouns  # here, as importing NLTK takes a second

    return WordNetNouns.load(wordnet)


def _load_custom(path: Path) -> CustomTree:
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if is_folder:
        return RankPaths.from_folder(path)
    header = next(iterate_csv(path, CSV_HEADERS)).values
    is_edges = {"child", "parent"} & {name.lower() for name in header}
    return CustomTree.from_csv(path) if is_edges else RankPaths.from_csv(path)
