"""Random and planted cases that the tests of this folder share."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.sparse as sp

from hsae.taxonomy import InducedTaxonomy, induce, load_taxonomy


@dataclass
class Case:
    dense: np.ndarray
    z: sp.csr_array
    labels: np.ndarray
    taxonomy: InducedTaxonomy
    neurons: np.ndarray

    def is_under(self) -> np.ndarray:
        """bool[n_images, n_nodes]"""
        return self.taxonomy.closure.toarray()[self.labels] > 0


@pytest.fixture(scope="session")
def make_taxonomy(tmp_path_factory) -> Callable[[Iterable[tuple[str, str]], Iterable[str]], InducedTaxonomy]:
    def make(edges, classes):
        path = tmp_path_factory.mktemp("taxonomy") / "tree.csv"
        path.write_text("child,parent\n" + "".join(f"{child},{parent}\n" for child, parent in edges))
        return induce(load_taxonomy(path), classes)

    return make


@pytest.fixture(scope="session")
def random_taxonomy(make_taxonomy) -> Callable[[np.random.Generator], InducedTaxonomy]:
    """A random DAG; its classes are some of the leaves and, now and then, some inner nodes."""

    def make(rng):
        n_nodes = int(rng.integers(3, 14))
        edges = set()
        for node in range(1, n_nodes):
            for parent in rng.choice(node, size=min(node, 1 + int(rng.random() < 0.25)), replace=False):
                edges.add((f"n{node:02d}", f"n{int(parent):02d}"))
        parents = {parent for _, parent in edges}
        leaves = [f"n{node:02d}" for node in range(1, n_nodes) if f"n{node:02d}" not in parents]
        inner = [f"n{node:02d}" for node in range(n_nodes) if f"n{node:02d}" in parents]
        extra = [name for name in inner if rng.random() < 0.2]
        return make_taxonomy(sorted(edges), leaves + extra)

    return make


@pytest.fixture(scope="session")
def random_case(random_taxonomy) -> Callable[[int], Case]:
    """Few images, many ties, dead, constant and dense latents, empty and single-image classes."""

    def make(seed):
        rng = np.random.default_rng(seed)
        taxonomy = random_taxonomy(rng)
        n_classes = len(taxonomy.classes)
        n_images, n_latents = int(rng.integers(2, 40)), int(rng.integers(1, 9))
        labels = rng.integers(0, n_classes, n_images)
        if rng.random() < 0.1:
            labels[:] = labels[0]
        dense = rng.integers(1, 5, (n_images, n_latents)) * np.float32(0.5)
        if rng.random() < 0.5:
            dense = rng.exponential(size=(n_images, n_latents))
        dense = dense * (rng.random((n_images, n_latents)) < rng.random(n_latents))
        for latent in range(n_latents):
            kind = rng.random()
            if kind < 0.15:
                dense[:, latent] = 0
            elif kind < 0.25:
                dense[:, latent] = 1.5
        dense = dense.astype(np.float32)
        neurons = rng.integers(-3, 4, (n_images, int(rng.integers(1, 6)))).astype(np.float32)
        return Case(dense, sp.csr_array(dense), labels, taxonomy, neurons)

    return make


@pytest.fixture(scope="session")
def planted_case(make_taxonomy) -> Case:
    """27 classes in 9 groups in 3 kingdoms; latent `j` fires on a share of node `j`'s images."""
    edges = []
    for kingdom in range(3):
        edges.append((f"k{kingdom}", "root"))
        for group in range(3):
            edges.append((f"k{kingdom}g{group}", f"k{kingdom}"))
            edges += [(f"k{kingdom}g{group}c{leaf}", f"k{kingdom}g{group}") for leaf in range(3)]
    taxonomy = make_taxonomy(edges, [child for child, _ in edges if "c" in child])
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(27), 12)
    is_under = taxonomy.closure.toarray()[labels] > 0
    fires = is_under & (rng.random(is_under.shape) < 0.9) | (rng.random(is_under.shape) < 0.002)
    dense = (fires * (1 + rng.exponential(size=fires.shape))).astype(np.float32)
    mixed = rng.standard_normal((is_under.shape[1], 24))
    neurons = (is_under @ mixed + rng.standard_normal((len(labels), 24))).astype(np.float32)
    return Case(dense, sp.csr_array(dense), labels, taxonomy, neurons)
