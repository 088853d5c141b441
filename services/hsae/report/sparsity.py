"""A warning where SAEs are compared that differ in sparsity."""

from collections.abc import Iterable

_RATIO = 1.1


def unequal_l0(l0s: Iterable[float | None], whose: str) -> str | None:
    """One line if the greatest held-out L0 is more than a tenth above the least; those that are None do not count.

    Args:
        l0s: the L0 of each SAE that is compared.
        whose: whose L0 it is, such as `the SAEs'`.
    """
    known = [l0 for l0 in l0s if l0 is not None]
    if not known or max(known) <= _RATIO * min(known):
        return None
    return (
        f"Warning: {whose} held-out L0 goes from {min(known):.3g} to {max(known):.3g}, so a difference may be one of"
        " sparsity: compare topk SAEs, or relu SAEs of one --target-l0 (docs/sae.md)."
    )
