"""Images to activations: decoding and preprocessing in threads, one forward pass for all layers."""

from hsae.extraction.batches import ListedImage, iterate_batches
from hsae.extraction.shards import ShardResult, extract_shard
from hsae.extraction.views import augmented_view

__all__ = ["ListedImage", "ShardResult", "augmented_view", "extract_shard", "iterate_batches"]
