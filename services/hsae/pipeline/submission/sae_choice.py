"""What `--sae-from` means: a registered SAE by its name, or one by its path; told without torch."""

import os
from collections.abc import Sequence

from hsae.catalog import transaction
from hsae.catalog.queries.saes import find_imported
from hsae.pipeline.connections import Connections
from hsae.sae.exchange.place import SaePlace


def is_sae_path(given: str) -> bool:
    """Whether a value is a path or a repository: with a slash it is, without one it is a name."""
    return os.sep in given or given in {".", ".."}


def check_given(connections: Connections, sae_from: Sequence[str]) -> None:
    """Refuse names that are not registered, and paths that lead nowhere.

    Raises:
        UserError: there is one.
    """
    for given in sae_from:
        if is_sae_path(given):
            SaePlace(given).local()
            continue
        with transaction(connections.sessions) as session:
            find_imported(session, given)
