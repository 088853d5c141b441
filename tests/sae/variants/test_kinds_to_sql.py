"""Kinds with settings, tensors or an encoder of their own go from `submit` to SQL and to an export."""

import re
import runpy

import pytest
import safetensors.torch
import torch
from sqlalchemy import text
from tests.pipeline.in_process import run_jobs
from tests.small import quick_scoring, register_small, small_request

from hsae.catalog import transaction
from hsae.pipeline.exports.export import export_analysis
from hsae.pipeline.planning.submit import submit
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder

SAES = {
    "matryoshka": SaeConfig(kind="matryoshka", k=4, groups="1/4,1", expansion=2, n_steps=20),
    "matryoshka_topk": SaeConfig(kind="matryoshka_topk", ks="2,4", weighting="reverse", expansion=2, n_steps=20),
    "matching_pursuit": SaeConfig(kind="matching_pursuit", k=4, expansion=2, n_steps=20),
}


@pytest.fixture(scope="module")
def scored(make_service):
    service = make_service()
    register_small(service, n_classes=3)
    scoring = quick_scoring(n_shuffles=0, controls=("untrained",), embeddings="own")
    request = small_request(layers=(5,), saes=tuple(SAES.values()), scoring=scoring)
    assert set(run_jobs(service, submit(request, service.settings, service.sessions))) == {"succeeded"}
    return service


@pytest.mark.parametrize("kind", SAES)
def test_the_catalog_has_it_and_its_export_encodes_like_it(kind, scored, tmp_path, monkeypatch):
    with transaction(scored.sessions) as session:
        query = "SELECT a.id, s.config, s.l0 FROM analysis a JOIN sae s ON s.id = a.sae_id WHERE s.kind = :kind"
        ((number, config, l0),) = session.execute(text(query), {"kind": kind}).all()
    assert SaeConfig.parse(config) == SAES[kind]
    assert 0 < l0 < 12
    export_analysis(number, tmp_path / "export", scored.sessions, scored.store)
    page = (tmp_path / "export" / "README.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "load.py").write_text(snippet)
    monkeypatch.chdir(tmp_path / "export")
    loaded = runpy.run_path(str(tmp_path / "load.py"))
    tensors = safetensors.torch.load((tmp_path / "export" / "sae.safetensors").read_bytes())
    for name, tensor in tensors.items():
        assert f"| `{name}` | {list(tensor.shape)} |" in page
    sae = SparseAutoencoder.from_tensors(tensors, SAES[kind])
    x = torch.randn(7, sae.d_model, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(loaded["encode"](x), sae.encode(x))
        torch.testing.assert_close(loaded["decode"](sae.encode(x)), sae(x))
