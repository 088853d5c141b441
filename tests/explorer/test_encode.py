"""An uploaded image has the latents that the pipeline gave it; garbage, bombs and other sites get a clear line."""

import io
import re
import zlib
from dataclasses import replace

import pytest
import torch
from PIL import Image
from sqlalchemy import text

from hsae.backbones.backbone import Backbone
from hsae.catalog import transaction
from hsae.errors import PreprocessingError
from hsae.explorer.reading.encoder import MAX_UPLOAD_BYTES
from hsae.explorer.reading.wanted import wanted_of
from hsae.explorer.shown.numbers import number
from hsae.sae.model import SparseAutoencoder

HERE = {"origin": "http://127.0.0.1:8808"}


def post(explored, content: bytes, name: str = "mine.png", headers=HERE, **fields):
    data = {"study": str(explored.wordnet), "layer": "3", **fields}
    return explored.client.post("/encode", files={"image": (name, content)}, data=data, headers=headers)


def test_an_image_of_the_data_set_has_its_stored_latents(explored):
    (stored,) = explored.sql(
        "SELECT a.key, a.activations_sha256, d.root FROM analysis a JOIN analysis_input i ON i.analysis_id = a.id"
        " JOIN dataset d ON d.id = i.dataset_id WHERE i.dataset = 'small' AND i.layer = 3"
    )
    with explored.sources.reading() as session:
        dataset = explored.sources.dataset(session, 1)
    path = explored.sources.listings.images(dataset, [7])[7].path
    from hsae.pipeline.gallery.images import read_image

    answer = post(explored, read_image(stored["root"], path))
    assert answer.status_code == 200, answer.text[:500]
    firing = explored.sources.latents.of_image(stored["key"], stored["activations_sha256"], 7)
    shown = re.findall(r'/sae/(\d+)">\d+</a></td><td class="num strong">([\d.]+)<', answer.text)
    expected = zip(firing.where.tolist(), firing.activations.tolist(), strict=True)
    assert shown == [(str(latent), number(activation)) for latent, activation in expected]
    assert 'src="data:image/webp;base64,' in answer.text


def png(width: int, height: int) -> bytes:
    """A PNG of one colour, small as a file whatever its size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    row = bytes(1 + (width + 7) // 8)
    packer = zlib.compressobj(9)
    body = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def whole_png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no image at all", "not a readable"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a readable"),
        (whole_png()[:60], "damaged image"),
        (png(20_000, 20_000), "more than the limit"),
        (png(60_000, 20), "one side more than"),
    ],
    ids=["garbage", "svg", "cut off", "bomb", "narrow"],
)
def test_what_is_no_good_image_says_why(explored, content, reason):
    answer = post(explored, content)
    assert answer.status_code == 422
    assert reason in answer.text
    assert "This is no image that can be used" in answer.text


def test_nothing_and_too_much_are_refused(explored):
    assert "choose a file" in post(explored, b"").text
    assert explored.client.post("/encode", data={"study": "1"}, headers=HERE).status_code == 400
    large = post(explored, b"0" * (MAX_UPLOAD_BYTES + 1))
    assert (large.status_code, "At most 32 MiB" in large.text) == (413, True)
    larger = post(explored, b"0" * (MAX_UPLOAD_BYTES + (2 << 20)))
    assert (larger.status_code, "more than 33 MiB" in larger.text) == (413, True)


def test_a_name_of_a_file_is_never_used(explored):
    answer = post(explored, whole_png(), name="../../<script>alert(1)</script>.png")
    assert answer.status_code == 200
    assert "alert(1)" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site", **HERE}, {"sec-fetch-site": "same-site"}, {"sec-fetch-site": "none"},
    ],
)  # fmt: skip
def test_a_post_of_another_site_is_refused(explored, headers):
    answer = post(explored, whole_png(), headers=headers)
    assert (answer.status_code, answer.text) == (403, "Uploads are taken from this explorer's own page only.\n")


@pytest.mark.parametrize("headers", [HERE, {"sec-fetch-site": "same-origin"}])
def test_a_post_of_our_own_page_is_taken(explored, headers):
    assert post(explored, whole_png(), headers=headers).status_code == 200


@pytest.mark.parametrize("fields", [{"study": "77"}, {"layer": "0"}, {"sae": "nothing"}, {"study": "x"}])
def test_an_unknown_analysis_is_a_page(explored, fields):
    assert post(explored, whole_png(), **fields).status_code in (400, 404)


def test_a_model_that_is_not_here_is_named(explored):
    def change(value: str) -> str:
        with transaction(explored.service.sessions) as session:
            before = session.execute(text("SELECT request -> 'model' ->> 'name' FROM job WHERE kind = 'extract'"))
            session.execute(
                text(
                    "UPDATE job SET request = jsonb_set(request, '{model}', request -> 'model' || jsonb_build_object("
                    "'name', CAST(:name AS text), 'revision', 'sha256-gone')) WHERE kind = 'extract'"
                ),
                {"name": value},
            )
            return str(before.first()[0])

    revision = explored.one("SELECT DISTINCT request -> 'model' ->> 'revision' FROM job WHERE kind = 'extract'")
    name = change("/nowhere/at-all")
    try:
        answer = post(explored, whole_png())
        assert answer.status_code == 503
        assert "The model is not on this machine" in answer.text
        assert "/nowhere/at-all" in answer.text
    finally:
        change(name)
        with transaction(explored.service.sessions) as session:
            session.execute(
                text(
                    "UPDATE job SET request = jsonb_set(request, '{model,revision}', to_jsonb(CAST(:value AS text)))"
                    " WHERE kind = 'extract'"
                ),
                {"value": revision},
            )
    assert post(explored, whole_png()).status_code == 200


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (PreprocessingError("9 x 90000 pixels: not within the limit"), 422, "9 x 90000 pixels: not within the limit."),
        (MemoryError("no room"), 503, "There is too little memory to encode this image"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 503, "There is too little memory"),
    ],
    ids=["preprocessing", "memory", "memory of torch"],
)
def test_what_fails_before_the_model_is_one_line(explored, monkeypatch, error, status, line):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Backbone, "pixel_values", fail)
    answer = post(explored, whole_png())
    assert answer.status_code == status
    assert line in answer.text


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_activations_are_rounded_as_the_extraction_keeps_them(explored, monkeypatch, dtype):
    with explored.sources.reading() as session:
        wanted = wanted_of(session, explored.one("SELECT min(analysis_id) FROM analysis_input"))
    assert wanted.dtype == explored.one("SELECT DISTINCT dtype FROM analysis_input")
    given = []
    encode = SparseAutoencoder.encode
    monkeypatch.setattr(SparseAutoencoder, "encode", lambda sae, x: given.append(x) or encode(sae, x))
    explored.sources.encoder.encode(whole_png(), replace(wanted, dtype=dtype))
    (x,) = given
    assert x.dtype == torch.float32
    assert torch.equal(x, x.bfloat16().float()) == (dtype == "bfloat16")
