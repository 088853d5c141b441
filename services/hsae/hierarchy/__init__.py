"""Latents against a taxonomy: node, latent and layer scores, their controls, and the linear probe.

Everything here is numpy, scipy and torch on arrays in memory; docs/metrics.md says what each number means.
"""

from hsae.hierarchy.analyse import Basis, BasisResult, NodeTable, Progress, analyse, analyse_basis
from hsae.hierarchy.associations import AssociationRule
from hsae.hierarchy.class_sums import ClassSums
from hsae.hierarchy.label_sets import Labels, LabelSets, label_sets
from hsae.hierarchy.latent_scores import LatentPlaces, LatentTable
from hsae.hierarchy.layer_scores import HeightCounts, LayerScores
from hsae.hierarchy.node_scores import NodeScores, false_discovery, iter_node_scores
from hsae.hierarchy.probe import ProbeResult, linear_probe

__all__ = [
    "AssociationRule",
    "Basis",
    "BasisResult",
    "ClassSums",
    "HeightCounts",
    "LabelSets",
    "Labels",
    "LatentPlaces",
    "LatentTable",
    "LayerScores",
    "NodeScores",
    "NodeTable",
    "ProbeResult",
    "Progress",
    "analyse",
    "analyse_basis",
    "false_discovery",
    "iter_node_scores",
    "label_sets",
    "linear_probe",
]
