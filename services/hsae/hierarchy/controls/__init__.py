"""Controls of an SAE: baselines at its densities, and shuffles of labels or taxonomy."""
