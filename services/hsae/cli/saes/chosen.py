"""Which SAE a person means: a number of `sae list`, or the name of one that is imported."""

import re
from typing import Any

from sqlalchemy.orm import Session

from hsae.catalog.queries.saes import find_imported, show_saes

NUMBER = re.compile(r"[0-9]{1,18}")


def chosen_sae(session: Session, given: str) -> dict[str, Any]:
    """The row of an SAE, with `weights_of`: what its object is addressed by.

    Raises:
        UserError: there is none.
    """
    if NUMBER.fullmatch(given):
        (row,) = show_saes(session, [int(given)])
        return row
    found = find_imported(session, given)
    origin = found.config["imported"]
    kept = ("n_latents", "d_model", "layer", "model", "tokens")
    return {
        "id": None, "imported": found.name, "key": found.key, "kind": found.config["kind"], "config": found.config,
        "expansion": found.config["expansion"], "source": found.source, "weights_sha256": found.weights_sha256,
        "created_at": found.created_at, **{name: origin.get(name) for name in kept},
    }  # fmt: skip


def name_of(row: dict[str, Any]) -> str:
    """What to call it in a heading."""
    return f"SAE {row['id']}" if row["id"] is not None else f"imported SAE {row['imported']}"
