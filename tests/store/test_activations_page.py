"""docs/activations.md: its lines without hsae read what an extraction stores."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.store.conftest import S3Server

from hsae.store.activations import ActivationManifest, ActivationRows, write_manifest, write_shard
from hsae.store.keys import shard_key
from hsae.store.objects import ObjectStore

PAGE = Path(__file__).parents[2] / "docs/activations.md"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_lines_without_hsae_read_a_set(s3_server: S3Server, store: ObjectStore, dtype: str) -> None:
    key = f"{dtype}-page"
    x = torch.randn(5, 3).to(getattr(torch, dtype))
    image, view = torch.arange(5, dtype=torch.int32), torch.zeros(5, dtype=torch.int16)
    entries = []
    for number, (first, end) in enumerate([(0, 2), (2, 5)]):
        rows = ActivationRows(x[first:end], image[first:end], view[first:end])
        entries.append(write_shard(store, shard_key(key, number), rows, first_image=first, end_image=end))
    manifest = ActivationManifest(
        key=key, model="m", revision="r", layer=1, tokens="cls", dtype=dtype, d_model=3, n_rows=5, n_images=5,
        n_views=1, n_tokens=1, shards=tuple(entries), skipped=(), hook="attention",
    )  # fmt: skip
    sha256 = write_manifest(store, manifest).sha256

    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    assert "hsae" not in code
    lines = [line for line in code.splitlines() if line and "import" not in line]
    assert len(lines) == 5
    found: dict[str, Any] = {"bucket": store.bucket, "key": key, "manifest_sha256": sha256}
    found |= {"endpoint": s3_server.endpoint, "access_key": s3_server.access_key, "secret_key": s3_server.secret_key}
    exec(code, found)  # noqa: S102 - the page's own lines
    assert found["rows"].keys() == {"activations", "image_index", "view"}
    assert torch.equal(found["rows"]["activations"], x)
    assert torch.equal(found["rows"]["image_index"], image)
    assert torch.equal(found["rows"]["view"], view)
    assert found["manifest"]["hook"] == "attention"
