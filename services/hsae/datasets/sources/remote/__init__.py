"""Sources on servers. A module is loaded with the first location of its scheme, for the sake of its libraries."""

from hsae.datasets.sources.registry import register_source
from hsae.datasets.sources.source import ImageSource


@register_source("http", "https")
def http_source(location: str) -> ImageSource:
    """Tars on a web server; see `HttpTars`."""
    # urllib3, a fifth of a second.
    from hsae.datasets.sources.remote.http_tars import HttpTars

    return HttpTars(location)


@register_source("hf")
def hub_source(location: str) -> ImageSource:
    """A data set of the Hugging Face Hub; see `HubSource`."""
    # huggingface_hub, half a second.
    from hsae.datasets.sources.remote.hub import HubSource

    return HubSource(location)


@register_source("s3")
def s3_source(location: str) -> ImageSource:
    """Tars in a bucket; see `S3Tars`."""
    # minio, a quarter of a second.
    from hsae.datasets.sources.remote.s3_tars import S3Tars

    return S3Tars(location)
