"""The images of interventions in their parts, whatever divides them."""

import numpy as np
import pytest
from tests.datasets.class_sets import listing_of

from hsae.interventions.config import InterveneSettings
from hsae.pipeline.stages.interventions.scene import parts_of
from hsae.split_config import ScoreSplit, SplitConfig

N_CLASSES, N_OF_CLASS = 5, 16


@pytest.mark.parametrize("split", [None, SplitConfig(), ScoreSplit()], ids=["in-sample", "three", "another trains"])
def test_no_scored_image_trains_a_readout_or_chooses_latents(split):
    """Where another data set trains the SAE, the images that select teach the readouts, too."""
    labels = np.repeat(np.arange(N_CLASSES), N_OF_CLASS)
    listing = listing_of([(f"c{label}",) for label in labels])
    analysed = np.flatnonzero(np.arange(len(labels)) % 7 > 0)  # the others could not be read
    parts = parts_of(InterveneSettings(), split, listing, labels, analysed)
    train, select, score = map(set, (parts.train.tolist(), parts.select.tolist(), parts.score.tolist()))
    assert score
    assert not score & (train | select)
    assert train | select | score == set(analysed.tolist())
    assert (train == select) == (not isinstance(split, SplitConfig))
    assert set(labels[parts.score]) == set(range(N_CLASSES))
