"""Sources of many images in few large files."""

from hsae.datasets.sources.packed.arrow import ArrowSource
from hsae.datasets.sources.packed.parquet import ParquetSource
from hsae.datasets.sources.packed.webdataset import WebDatasetSource

__all__ = ["ArrowSource", "ParquetSource", "WebDatasetSource"]
