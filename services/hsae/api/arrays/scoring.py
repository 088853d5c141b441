"""`hsae.score`: latents of labelled images against a taxonomy, in memory."""

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from hsae.api.arrays.encoding import as_rows, check_finite_rows, latents_of, mean_rows
from hsae.api.arrays.labels import WORDNET, LabelsLike, TaxonomyLike, label_images
from hsae.api.arrays.parts import Split, image_parts
from hsae.api.arrays.scores import Scores
from hsae.api.arrays.training import Trained
from hsae.errors import UserError
from hsae.hierarchy.config import ScoringConfig
from hsae.hierarchy.score_bases import score_bases
from hsae.hierarchy.scored_activations import ImageParts, LabelledImages, SaeActivations
from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows.source import TrainingRows
from hsae.sae.training.initialisation import untrained_sae
from hsae.vocabulary.bases import BASELINES


def score(
    z: Any,
    labels: LabelsLike,
    *,
    taxonomy: TaxonomyLike = WORDNET,
    split: Split = None,
    activations: Any = None,
    sae: SparseAutoencoder | Trained | None = None,
    scoring: ScoringConfig | None = None,
) -> Scores:
    """Score latents against every node of a taxonomy, without any server: the pipeline's own code and numbers.

    Beside each number stands what chance gives: exact tests with q-values, coherence and LCH excess, F1 adjusted for
    the node's size, and the same latents under shuffled labels and shuffled taxonomies. With `activations` there are
    also the baselines (exemplars, k-means, principal and random directions, raw neurons) at the same densities and the
    monosemanticity; with `sae`, too, the untrained SAE, absorption and the similarity of siblings.

    Args:
        z: latent activations, not negative: float[n_images, n_latents] as NumPy array, torch tensor or SciPy matrix.
        labels: of every image a synset name (dog.n.01), a wnid (n02084071), a word with one sense or a node of the
            tree, or several of them; under an `InducedTaxonomy` also positions in its classes.
        taxonomy: "wordnet", the path of a tree's CSV, a `Taxonomy` or `InducedTaxonomy`, or pairs (child, parent).
        split: which images train the baselines, choose latents, and are scored: `parts = hsae.split(labels)`. Numbers
            are held out only if the SAE, too, was trained on `x[parts.train]` alone. Shares such as "0.5/0.25/0.25"
            make the same parts; they are for an SAE that saw none of these images. None: in-sample, every image does
            everything, and the choice flatters itself.
        activations: what the SAE was given, float[n_images, d_model] or float[n_images, n_tokens, d_model].
        sae: the SAE that gave z.
        scoring: thresholds, controls, shuffles, seeds; None: the defaults of the pipeline with the controls that can be
            made of what is given. `embeddings` does not count: images are compared by `activations`.

    Returns:
        Scores by latent, by node, and of all together.

    Raises:
        UserError: arrays or labels do not fit together, a value is NaN, infinite or negative, a label is unknown, or
            there are fewer than three classes; one line.
    """
    z = _latents(z)
    n_images = z.shape[0]
    labelled = label_images(labels, taxonomy, n_images)
    parts = image_parts(split, labelled.listing)
    module = _module(sae)
    scoring = _scoring(scoring, has_activations=activations is not None, has_sae=module is not None)
    given = _sae_activations(z, activations, module, scoring, parts)
    images = LabelledImages(labelled.labels, labelled.taxonomy, None, parts)
    return Scores(tuple(score_bases(given, images, scoring)), labelled.taxonomy, scoring, parts)


def _latents(z: Any) -> "sp.csr_array[np.float32]":
    """The activations as float32 in CSR form, finite and not negative."""
    sparse: sp.csr_array[np.float32]
    try:
        if isinstance(z, Tensor):
            z = z.detach().cpu().to_dense()
            z = (z.float() if z.is_floating_point() else z).numpy()  # NumPy has no bfloat16
        given = z if hasattr(z, "tocsr") else np.asarray(z)
    except (TypeError, ValueError) as error:
        raise UserError("z is no array of numbers: give float[n_images, n_latents]") from error
    if given.ndim != 2 or 0 in given.shape or given.dtype.kind not in "biuf":
        raise UserError(f"z is {given.dtype}{list(given.shape)}: give float[n_images, n_latents]")
    sparse = sp.csr_array(given.astype(np.float32))
    for what, is_bad in (("NaN or infinite", ~np.isfinite(sparse.data)), ("negative", sparse.data < 0)):
        if is_bad.any():
            entry = int(np.argmax(is_bad))
            image = int(np.searchsorted(sparse.indptr, entry, side="right")) - 1
            raise UserError(
                f"z is {what} for image {image}, latent {sparse.indices[entry]}: give activations of 0 or greater"
            )
    return sparse


def _module(sae: Any) -> SparseAutoencoder | None:
    found = sae.sae if isinstance(sae, Trained) else sae
    if found is not None and not isinstance(found, SparseAutoencoder):
        raise UserError(f"the SAE is a {type(sae).__name__}: give what hsae.train returned, or an.sae()")
    return found


def _scoring(given: ScoringConfig | None, *, has_activations: bool, has_sae: bool) -> ScoringConfig:
    possible = tuple(basis for basis in BASELINES if has_activations and (has_sae or basis != "untrained"))
    if given is None:
        return ScoringConfig(controls=possible)
    if not isinstance(given, ScoringConfig):
        raise UserError(
            f"the scoring is a {type(given).__name__}: give an hsae.ScoringConfig, such as ScoringConfig(n_shuffles=5)"
        )
    lacking = [] if has_activations or not given.controls else ["activations"]
    if "untrained" in given.controls and not has_sae:
        lacking.append("sae")
    if lacking:
        raise UserError(
            f"the controls {', '.join(given.controls)} are made of {' and '.join(lacking)}: give"
            f" {'it' if lacking == ['sae'] else 'them'}, too, or choose other controls (scoring.controls)"
        )
    return given


class _Raw(NamedTuple):
    """What the SAE was given: a row per image, and of several tokens every neuron's greatest values."""

    mean: np.ndarray
    pooled: "sp.csr_array[np.float32] | None"


def _sae_activations(
    z: "sp.csr_array[np.float32]",
    activations: Any,
    sae: SparseAutoencoder | None,
    scoring: ScoringConfig,
    parts: ImageParts | None,
) -> SaeActivations:
    if sae is not None and sae.n_latents != z.shape[1]:
        raise UserError(f"z has {z.shape[1]} latents and the SAE {sae.n_latents}: give the SAE that gave z")
    raw = None if activations is None else _raw(activations, z.shape[0])
    if sae is not None and raw is not None and raw.mean.shape[1] != sae.d_model:
        raise UserError(
            f"the activations have {raw.mean.shape[1]} dimensions and the SAE {sae.d_model}: give those of its layer"
        )
    untrained = None
    if sae is not None and raw is not None and "untrained" in scoring.controls:
        untrained = latents_of(_before_training(sae, activations, parts), activations)
    of_sae = {}
    if sae is not None:
        of_sae = {
            "decoder": sae.decoder_weight.detach().cpu().numpy(),
            "pre_bias": sae.pre_bias.detach().cpu().numpy(),
        }
    return SaeActivations(
        z,
        None if raw is None else raw.mean,
        untrained=untrained,
        pooled_neurons=None if raw is None else raw.pooled,
        input_scale=1.0 if sae is None else float(sae.input_scale),
        **of_sae,
    )


def _raw(activations: Any, n_images: int) -> _Raw:
    rows, n_tokens = as_rows(activations)
    if len(rows) != n_images * n_tokens:
        raise UserError(f"there are activations of {len(rows) // n_tokens} images and latents of {n_images}")
    check_finite_rows(rows)
    pooled = None
    if n_tokens > 1:
        x = rows.float().view(n_images, n_tokens, -1)
        pooled = sp.csr_array(torch.cat((x.amax(1), -x.amin(1)), dim=1).clamp(min=0).numpy())
    return _Raw(mean_rows(activations), pooled)


def _before_training(sae: SparseAutoencoder, activations: Any, parts: ImageParts | None) -> SparseAutoencoder:
    """The SAE that the training started from, made from the images that train."""
    rows, n_tokens = as_rows(activations)
    image = torch.arange(len(rows)) // n_tokens
    if parts is not None:
        trains = torch.zeros(len(rows) // n_tokens, dtype=torch.bool)
        trains[torch.from_numpy(parts.train)] = True
        rows, image = rows[trains[image]], image[trains[image]]
    return untrained_sae(sae.config, TrainingRows(rows, image, torch.zeros(len(rows), dtype=torch.int16)))
