"""Taxonomies: WordNet 3.0's nouns or a user's own tree, and what a data set's classes induce in them."""

from hsae.taxonomy.induced import InducedTaxonomy, induce
from hsae.taxonomy.load import load_taxonomy
from hsae.taxonomy.taxonomy import Interpretation, Rule, SenseChoice, Synset, Taxonomy

__all__ = [
    "InducedTaxonomy",
    "Interpretation",
    "Rule",
    "SenseChoice",
    "Synset",
    "Taxonomy",
    "induce",
    "load_taxonomy",
]
