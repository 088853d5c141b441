"""Care of objects: lost ones are made again, unneeded ones are deleted."""
