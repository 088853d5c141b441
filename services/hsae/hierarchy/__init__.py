"""Latents against a taxonomy: node, latent and layer scores, their controls, the latents' own hierarchy; and a layer's
own class information.

Everything here is numpy, scipy and torch on arrays in memory; docs/metrics.md says what each number means.
"""

from hsae.hierarchy.analyse import Progress, analyse, analyse_basis
from hsae.hierarchy.associations import AssociationRule
from hsae.hierarchy.basis_result import Basis, BasisResult, NodeTable
from hsae.hierarchy.class_distances import PathCorrelation, path_distance_correlation
from hsae.hierarchy.class_sums import ClassSums
from hsae.hierarchy.dense_bases import CONTROL_BASES, ControlBasis
from hsae.hierarchy.label_sets import Labels, LabelSets, label_sets
from hsae.hierarchy.latent_edges import LatentEdges, latent_hierarchy
from hsae.hierarchy.latent_families import LatentFamilies
from hsae.hierarchy.latent_scores import LatentPlaces, LatentTable
from hsae.hierarchy.layer_scores import HeightCounts, LayerScores
from hsae.hierarchy.level_scores import LevelScores, level_scores
from hsae.hierarchy.node_scores import NodeScores, false_discovery, iter_node_scores
from hsae.hierarchy.probe import ProbeResult, linear_probe
from hsae.hierarchy.taxonomy_levels import taxonomy_levels

__all__ = [
    "CONTROL_BASES",
    "AssociationRule",
    "Basis",
    "BasisResult",
    "ClassSums",
    "ControlBasis",
    "HeightCounts",
    "LabelSets",
    "Labels",
    "LatentEdges",
    "LatentFamilies",
    "LatentPlaces",
    "LatentTable",
    "LayerScores",
    "LevelScores",
    "NodeScores",
    "NodeTable",
    "PathCorrelation",
    "ProbeResult",
    "Progress",
    "analyse",
    "analyse_basis",
    "false_discovery",
    "iter_node_scores",
    "label_sets",
    "latent_hierarchy",
    "level_scores",
    "linear_probe",
    "path_distance_correlation",
    "taxonomy_levels",
]
