"""Load a taxonomy: a custom tree or rank paths if the user gives a path, otherwise WordNet's nouns."""

from pathlib import Path

from hsae.errors import UserError
from hsae.taxonomy.csv_rows import iterate_csv
from hsae.taxonomy.custom_tree import CustomTree
from hsae.taxonomy.rank_paths import CSV_HEADERS, RankPaths
from hsae.taxonomy.taxonomy import Taxonomy


def load_taxonomy(custom: Path | None = None, *, wordnet: Path | None = None) -> Taxonomy:
    """Load a taxonomy. WordNet takes about two seconds, most of it for the import of NLTK.

    Args:
        custom: a CSV with the header child,parent (a tree or DAG with one root); a CSV whose columns are ranks from
            coarse to fine, one row per leaf; or a folder of class folders whose names contain their rank path.
        wordnet: a folder with another WordNet 3.0 noun database, data.noun and index.noun (HSAE_WORDNET). None: NLTK's
            own data (corpora/wordnet) if it is version 3.0, otherwise the database shipped with hsae.

    Raises:
        UserError: `custom` is no such taxonomy, or `wordnet` is no WordNet 3.0 database.
    """
    if custom is not None:
        return _load_custom(custom)
    from hsae.taxonomy.wordnet_nouns import WordNetNouns  # here, because the import of NLTK takes a second

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
