"""Controls of an SAE: other bases, thinned to its L0, and shuffles of labels or taxonomy."""
