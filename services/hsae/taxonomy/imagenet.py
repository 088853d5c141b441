"""The classes of ImageNet-1k in WordNet, and their hypernyms."""

from importlib import resources

from hsae.taxonomy.taxonomy import Taxonomy


def imagenet_wnids() -> tuple[str, ...]:
    """The wnids of ImageNet-1k's 1,000 classes, in the order of its class list."""
    text = (resources.files("hsae.taxonomy") / "wordnet" / "imagenet-1k-wnids.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if not line.startswith("#"))


def imagenet_nodes(wordnet: Taxonomy) -> frozenset[str]:
    """The wnids of the classes and of all their hypernyms: 1,860 of WordNet's 82,115 nouns."""
    pending = list(imagenet_wnids())
    seen = set(pending)
    while pending:
        new = set(wordnet.hypernyms(pending.pop())) - seen
        seen |= new
        pending += new
    return frozenset(seen)
