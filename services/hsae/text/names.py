"""Names of latents: the word whose embedding lies nearest to what the latent stands for in the space of embeddings.

    score(latent, word) = cos(v, t_word - mean of t over the vocabulary)

t is the unit embedding of a word, ensembled over templates and synonyms. All texts share one large direction, in which
a direction of images has no business; without the mean the words near it would win everywhere (ours; Rao et al. 2024,
arXiv 2407.14499, take cos(v, t)). v has no mean to take away, as it is a difference in each of these:

direction   of a latent of the image embedding: its decoder direction, what the latent adds to the SAE's pre-bias
effect      of an earlier layer: what ablating it takes from the unit embedding of its strongest images, their mean
            (`hsae.text.effects`; after Joseph et al. 2025, arXiv 2504.08729, who read what latents do to the output)
images      of any backbone: the mean unit embedding, by another model, of its strongest images less that of all images
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from hsae.text.tower import TextTower
from hsae.text.vocabulary import Vocabulary

_ROWS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class WordEmbeddings:
    """A vocabulary in the space of embeddings.

    Attributes:
        centred: each word's embedding less the mean of all, at length 1 (0 where a word is the mean).
        mean: that mean.
    """

    centred: Float[Tensor, "n_words d_embedding"]
    mean: Float[Tensor, "d_embedding"]

    @classmethod
    def of(cls, vocabulary: Vocabulary, templates: Sequence[str], tower: TextTower) -> "WordEmbeddings":
        """Embed a vocabulary."""
        units = tower.ensembled([entry.texts(templates) for entry in vocabulary]).double()
        mean = units.mean(0)
        return cls(nn.functional.normalize(units - mean, dim=1), mean)


@dataclass(frozen=True, slots=True, eq=False)
class Names:
    """The best word of every latent, and the second one; -1 and NaN for a latent that stands for nothing (v = 0).

    Attributes:
        word: number of the entry.
        score: its cosine.
        runner_up: number of the second.
        margin: the score less that of the second.
    """

    word: Int64[np.ndarray, "n"]
    score: Float64[np.ndarray, "n"]
    runner_up: Int64[np.ndarray, "n"]
    margin: Float64[np.ndarray, "n"]


def nearest_words(directions: Float[Tensor, "n d_embedding"], words: WordEmbeddings) -> Names:
    """The two words of every direction with the greatest cosine; of equal ones the first in the vocabulary."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for start in range(0, len(directions), _ROWS):
        part = directions[start : start + _ROWS].double()
        cosine = (nn.functional.normalize(part, dim=1) @ words.centred.T).cpu().numpy()
        best = np.argsort(-cosine, axis=1, kind="stable")[:, :2]
        found.append((best, np.take_along_axis(cosine, best, axis=1)))
    if not found:
        empty, none = np.empty(0, np.int64), np.empty(0)
        return Names(empty, none, empty, none)
    best, cosine = (np.concatenate(each) for each in zip(*found, strict=True))
    has_name = (directions != 0).any(dim=1).cpu().numpy()
    best = np.where(has_name[:, np.newaxis], best, -1)
    cosine = np.where(has_name[:, np.newaxis], cosine, np.nan)
    return Names(best[:, 0], cosine[:, 0], best[:, 1], cosine[:, 0] - cosine[:, 1])


def concept_cosines(
    directions: Float[Tensor, "n d_embedding"],
    concept: Float[Tensor, "d_embedding"],
    mean: Float[Tensor, "d_embedding"],
) -> Float64[np.ndarray, "n"]:
    """The cosine of every direction with a text that need not be of the vocabulary, less the vocabulary's mean."""
    wanted = nn.functional.normalize(concept.double() - mean.double(), dim=0)
    return np.asarray((nn.functional.normalize(directions.double(), dim=1) @ wanted).cpu().numpy())
