"""The names of the precisions; the command line reads them, so nothing here loads torch."""

from typing import Literal

Precision = Literal["float32", "tf32", "bfloat16"]
"""Of matrix products and convolutions on a GPU; sums, weights and results are float32 with each of them.

tf32 rounds their inputs to 10 bits of the mantissa, and is float32 on a processor; bfloat16 is autocast's, with 7 bits.
"""
