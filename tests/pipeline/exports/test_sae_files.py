"""`sae export` of an SAE from any hook point is read again as one of that hook point."""

import pytest

from hsae.pipeline.exports.saes import sae_files
from hsae.pipeline.exports.saes.sae_files import export_sae
from hsae.sae.config import SaeConfig
from hsae.sae.exchange.place import SaePlace
from hsae.sae.exchange.read import read_sae
from hsae.sae.exchange.write import WRITTEN_FORMATS
from hsae.sae.model import SparseAutoencoder


@pytest.mark.parametrize("format_name", WRITTEN_FORMATS)
@pytest.mark.parametrize(
    ("hook", "hook_point"),
    [
        ("residual", "blocks.2.hook_resid_post"),
        ("mlp", "blocks.2.hook_mlp_out"),
        ("encoder.layer.*.mlp.fc1", "encoder.layer.2.mlp.fc1"),
    ],
)
def test_the_hook_point_of_a_stored_sae_comes_back(tmp_path, monkeypatch, format_name, hook, hook_point):
    sae = SparseAutoencoder(SaeConfig(kind="topk", k=2, expansion=2), 8)
    sae.requires_grad_(False)
    sae.decoder_weight[:, 0] = 1
    row = {
        "id": 7, "key": "0" * 64, "config": sae.config.model_dump(mode="json"), "weights_sha256": "1" * 64, "layer": 2,
        "model": "facebook/dinov2-small", "tokens": "cls", "hook": hook,
    }  # fmt: skip
    monkeypatch.setattr(sae_files, "get_tensors", lambda store, key, sha256: (sae.to_tensors(), {}))
    export_sae(None, row, tmp_path / hook_point, format_name)
    found = read_sae(SaePlace(str(tmp_path / hook_point)), name="again")
    origin = found.config.imported
    assert (origin.hook, origin.layer, origin.hook_point) == (hook, 2, hook_point)

    again = {**row, "id": None, "config": found.config.model_dump(mode="json"), "layer": origin.layer}
    del again["hook"]  # rows of imported ones have none
    monkeypatch.setattr(sae_files, "get_tensors", lambda store, key, sha256: (dict(found.tensors), {}))
    export_sae(None, again, tmp_path / "hsae", "hsae")
    assert read_sae(SaePlace(str(tmp_path / "hsae"))).config.imported == origin
