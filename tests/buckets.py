"""Buckets of the tests' S3 server beside those of the services."""

from collections.abc import Iterator
from contextlib import contextmanager

from minio import Minio

from hsae.embedded import StackInfo


@contextmanager
def bucket_on(stack: StackInfo, name: str) -> Iterator[Minio]:
    """A new bucket, by a client that may write into it; it is deleted with all that it holds."""
    client = Minio(
        stack.s3_endpoint, access_key=stack.s3_access_key, secret_key=stack.s3_secret_key, secure=False,
        region="us-east-1",
    )  # fmt: skip
    client.make_bucket(name)
    yield client
    for item in client.list_objects(name, recursive=True):
        client.remove_object(name, str(item.object_name))
    client.remove_bucket(name)
