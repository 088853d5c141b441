"""How the shards of activation sets are computed and entered, by the extraction or by one of its parts."""
