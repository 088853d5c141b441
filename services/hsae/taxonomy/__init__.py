"""Taxonomies: WordNet 3.0 nouns, custom trees, rank paths; and the taxonomy induced by a data set's classes."""

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
