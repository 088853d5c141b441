"""A package of its own, so that the demo stops when its tests are done."""
