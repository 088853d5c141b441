"""Random numbers of one seed for several purposes, without any state to save."""

import numpy as np

# Philox keys are (seed, purpose): the streams of different purposes never meet. A pass over the rows has its number.
HOLDOUT_STREAM = 2**63
SUBSAMPLE_STREAM = 2**63 + 1
MEASURED_STREAM = 2**63 + 2
SHARD_STREAM = 2**63 + 3
CKNNA_STREAM = 2**63 + 16
COHERENCE_STREAM = 2**63 + 17
PROBE_STREAM = 2**63 + 18
# Plus the number of the step.
RESAMPLING_STREAM = 2**62


def generator(seed: int, stream: int, part: int = 0) -> np.random.Generator:
    """The numbers of a seed for one purpose.

    Args:
        seed: the seed.
        stream: the purpose.
        part: which part of the stream; no two parts meet, because it is the highest word of Philox's counter.
    """
    key = np.array([seed, stream], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, 0, part], dtype=np.uint64)))
