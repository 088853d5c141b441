"""Random numbers of one seed for several purposes, without any state to save."""

import numpy as np

# Philox keys are (seed, purpose): the streams of different purposes never meet. A pass over the rows has its number.
HOLDOUT_STREAM = 2**63
SUBSAMPLE_STREAM = 2**63 + 1
MEASURED_STREAM = 2**63 + 2
# Plus the number of the step.
RESAMPLING_STREAM = 2**62


def generator(seed: int, stream: int) -> np.random.Generator:
    """The numbers of a seed for one purpose."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], dtype=np.uint64)))
