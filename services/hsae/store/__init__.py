"""The object store: checksummed objects, safetensors, activation sets (docs/storage-format.md)."""
