"""Questions about what was found: scores, edges, levels, trees, comparisons."""
