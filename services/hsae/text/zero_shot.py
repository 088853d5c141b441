"""CLIP zero-shot as a readout of interventions: the class whose text lies nearest to the image's embedding."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn

from hsae.errors import UserError
from hsae.interventions.readouts import Reading, Readout
from hsae.taxonomy import Synset
from hsae.text.config import TEMPLATES
from hsae.text.tower import TextTower
from hsae.text.vocabulary import entry_of
from hsae.vocabulary.readouts import ReadoutName


@dataclass(frozen=True, eq=False)
class ZeroShotReadout(Readout):
    """The text tower's embeddings of the classes, each ensembled over its lemmas and the templates.

    Attributes:
        embed: from the stream after the last block to the image's embedding.
        classes: of length 1; 0 of a class of which the model knows no word, which it never names.
        is_known: the others.
        scale: of the cosines as logits: the model's own (Radford et al. 2021).
    """

    embed: Callable[[Float[Tensor, "batch n_all d_model"]], Float[Tensor, "batch d_embedding"]]
    classes: Float64[Tensor, "n_classes d_embedding"]
    is_known: Bool[np.ndarray, "n_classes"]
    scale: float
    name: ReadoutName = "zero_shot"

    def read(self, stream: Float[Tensor, "batch n_all d_model"]) -> Reading:
        """The classes of a batch."""
        image = nn.functional.normalize(self.embed(stream).double(), dim=1)
        logits = (image @ self.classes.T * self.scale).cpu().numpy()
        logits = np.where(self.is_known, logits, -np.inf)
        return Reading(logits.argmax(1), logits)


def zero_shot_readout(
    tower: TextTower,
    embed: Callable[[Float[Tensor, "batch n_all d_model"]], Float[Tensor, "batch d_embedding"]],
    classes: Sequence[Synset],
    device: torch.device,
) -> ZeroShotReadout:
    """Embed the classes of a taxonomy, in its order.

    Raises:
        UserError: the model knows the words of fewer than two of them.
    """
    texts: list[list[str]] = []
    for position, synset in enumerate(classes):
        entry = entry_of(synset, position)
        known_words = tuple(word for word in entry.synonyms if tower.knows(word))
        texts.append(replace(entry, synonyms=known_words).texts(TEMPLATES))
    known = [position for position, own in enumerate(texts) if own]
    if len(known) < 2:
        raise UserError(
            f"{tower.name} knows the words of {len(known)} of the data set's {len(classes)} classes: leave the readout"
            " zero_shot out"
        )
    found = tower.ensembled([texts[position] for position in known]).double().to(device)
    embeddings = torch.zeros(len(classes), found.shape[1], dtype=torch.float64, device=device)
    embeddings[torch.tensor(known, device=device)] = found
    is_known = np.isin(np.arange(len(classes)), known)
    return ZeroShotReadout(embed, embeddings, is_known, tower.logit_scale)
