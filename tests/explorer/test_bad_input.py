"""What nobody should send: unknown numbers, mistakes in addresses, SQL, other hosts; and what is not there yet."""

import re

import pytest
from starlette.testclient import TestClient
from tests.explorer.conftest import N_CLASSES
from tests.pipeline.in_process import plan_small
from tests.small import register_small

from hsae.catalog import transaction
from hsae.errors import ServiceError
from hsae.explorer.app import make_app
from hsae.explorer.reading.sources import Cache, Sources

HUGE = 10**30
DIGITS = "7" * 5000  # more than Python reads as a number
FIELDS = (
    "layer", "sae", "basis", "root", "depth", "open", "q", "view", "under", "min_f1_adjusted", "min_coherence",
    "min_stability", "min_density", "max_density", "max_q", "sort", "after", "source", "parent", "child",
)  # fmt: skip


@pytest.mark.parametrize(
    "path",
    [
        "/study/77", f"/study/{HUGE}", f"/study/{DIGITS}", "/study/-1", "/study/one", "/node/777777", f"/node/{HUGE}",
        f"/node/{DIGITS}", f"/latent/{DIGITS}/sae/1", f"/image/1/{DIGITS}", f"/thumbnail/{DIGITS}/1",
        "/latent/1/sae/99999", f"/latent/1/sae/{HUGE}", "/latent/77/sae/1", f"/latent/{HUGE}/sae/1",
        "/latent/1/nothing/1", "/latent/1/sae%00/1", "/image/1/99999", f"/image/1/{HUGE}", "/image/77/1",
        f"/image/{HUGE}/1", "/thumbnail/1/99999", "/thumbnail/77/1", "/tree?study=77", "/tree?layer=2",
        "/tree?sae=nothing", "/tree?root=777777", "/latents?study=77", "/pairs?study=77", "/encode?study=77",
        "/tree/..%2f..%2fetc/passwd", "/static/../app.py", "/static/..%2fapp.py", "/nothing",
    ],
)  # fmt: skip
def test_what_is_unknown_is_a_plain_page_of_404(explored, path):
    page = explored.get(path, 404)
    assert "<h1>Not found</h1>" in page or page == "Not Found"


@pytest.mark.parametrize(
    "path",
    [
        "/tree?study=one", f"/tree?study={HUGE}", "/tree?layer=-1", "/tree?layer=1.5", "/tree?basis=nothing",
        "/tree?depth=0", "/tree?depth=999", "/tree?open=1,x", f"/tree?open={','.join(['1'] * 500)}", "/tree?view=x",
        "/tree?q=%00", f"/tree?q={'a' * 300}", "/latents?min_f1=nan", "/latents?min_f1=inf",
        "/latents?min_f1_adjusted=x", "/latents?sort=top_images", "/latents?after=1", "/latents?after=nan_1_1",
        f"/latents?after=0.5_{HUGE}_1",
        "/latents?after=1_2_3_4", "/latents?under=nothing.n.01", "/pairs?under=nothing.n.01", "/pairs?source=x",
        "/pairs?parent=-1", "/pairs?after=x", "/pairs?confirmed=maybe", "/thumbnail/1/1?side=9",
        "/thumbnail/1/1?side=100000",
    ],
)  # fmt: skip
def test_a_mistake_in_an_address_is_one_line(explored, path):
    page = explored.get(path, 400)
    (line,) = re.findall(r'<p class="says">(.*?)</p>', page)
    assert "mistake" in line or "no data set has a node" in line
    assert "Traceback" not in page


def test_fields_that_are_left_blank_say_nothing(explored):
    """A form sends all of its fields."""
    for path in ("/tree?", "/latents?", "/pairs?", "/encode?", "/image/1/1?"):
        explored.get(path + "&".join([f"study={explored.wordnet}", *(f"{name}=" for name in FIELDS)]))
    explored.get("/tree?study=&layer=")


@pytest.mark.parametrize(
    "text",
    [
        "' OR 1=1 --",
        "'; DROP TABLE study; --",
        "%27%3B SELECT pg_sleep(9) --",
        "\\'; --",
        ":study %(study)s {x}",
        "%",
        "_",
    ],
)
def test_sql_in_a_parameter_is_a_text(explored, text):
    before = explored.one("SELECT count(*) FROM study")
    for path, parameter in (("/tree", "q"), ("/latents", "q")):
        page = explored.client.get(path, params={"study": explored.wordnet, parameter: text})
        assert page.status_code == 200, page.text[:500]
        if "'" in text:
            assert 'class="sql"' not in page.text
    for path, parameter in (("/latents", "under"), ("/tree", "sae"), ("/pairs", "under")):
        page = explored.client.get(path, params={"study": explored.wordnet, parameter: text})
        assert page.status_code in (400, 404), page.text[:500]
    assert explored.one("SELECT count(*) FROM study") == before


def test_a_pages_transaction_cannot_write(explored):
    with pytest.raises(Exception, match="read-only transaction"), explored.sources.reading() as session:
        session.connection().exec_driver_sql("DELETE FROM study")


def test_a_query_that_takes_too_long_is_stopped(explored):
    def wait() -> None:
        with explored.sources.reading() as session:
            session.connection().exec_driver_sql("SET LOCAL statement_timeout = '10ms'")
            session.connection().exec_driver_sql("SELECT pg_sleep(30)")

    with pytest.raises(ServiceError, match="stopped this query after 20 s"):
        wait()


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8808", "localhost.evil.example", ""])
def test_another_hosts_name_is_refused(explored, host):
    answer = explored.client.get("/", headers={"host": host})
    assert (answer.status_code, answer.text) == (400, "Invalid host header")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8808", "localhost:9", "[::1]:8808"])
def test_loopback_has_several_names(explored, host):
    assert explored.client.get("/healthz", headers={"host": host}).text == "ok\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_pages_take_no_other_method(explored, method):
    here = {"origin": "http://127.0.0.1:8808"}
    assert explored.client.request(method, "/latents", headers=here).status_code == 405
    assert explored.client.request(method, "/latents").status_code == 403


def test_an_empty_catalog_says_what_to_do(make_service, tmp_path):
    service = make_service()
    sources = Sources(service.settings, Cache(tmp_path))
    with TestClient(make_app(sources), base_url="http://127.0.0.1") as client:
        for path in ("/", "/tree", "/latents", "/pairs", "/encode", "/tree?q=dog"):
            answer = client.get(path)
            assert answer.status_code == 200
            assert "hsae-admin demo" in answer.text
            assert "hsae-admin submit --layer 8" in answer.text
        assert client.get("/image/1/1").status_code == 404
        assert client.get("/healthz").text == "ok\n"
    sources.close()


def test_a_study_without_analyses_says_why(make_service, tmp_path):
    service = make_service()
    register_small(service, n_classes=3)
    plan = plan_small(service)
    with transaction(service.sessions) as session:
        session.connection().exec_driver_sql(
            "UPDATE job SET state = 'failed', error = '<b>no room</b>' WHERE kind = 'extract'"
        )
    sources = Sources(service.settings, Cache(tmp_path))
    with TestClient(make_app(sources), base_url="http://127.0.0.1") as client:
        for path in (
            f"/study/{plan.study_id}",
            "/tree",
            "/latents",
            "/pairs",
            "/encode",
            f"/latents?study={plan.study_id}",
        ):
            page = client.get(path).text
            assert "no analysis yet" in page, path
            assert "1 failed" in page, path
            assert "&lt;b&gt;no room&lt;/b&gt;" in page, path
        image = client.get("/image/1/1").text
        assert "No study has scored small yet." in image
    sources.close()


def test_an_image_root_that_is_not_mounted_is_named(explored):
    moved = explored.folder.rename(explored.folder.with_name("moved"))
    try:
        dataset = explored.one("SELECT id FROM dataset WHERE name = 'hostile'")
        answer = explored.client.get(f"/thumbnail/{dataset}/1?side=200")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("image/svg+xml")
        words = re.sub(r"\s+", "", "".join(re.findall(r"<title>(.*?)</title>", answer.text)))
        assert str(explored.folder) in words
        page = explored.get(f"/image/{dataset}/1")
        assert f"/thumbnail/{dataset}/1?side=640" in page
    finally:
        moved.rename(explored.folder)
    assert explored.client.get(f"/thumbnail/{dataset}/1?side=200").headers["content-type"] == "image/webp"


def test_pictures_are_small_and_of_the_catalog_alone(explored):
    n_images = explored.one("SELECT n_images FROM dataset WHERE name = 'small'")
    assert explored.one("SELECT n_classes FROM dataset WHERE name = 'small'") == N_CLASSES
    answer = explored.client.get(f"/thumbnail/1/{n_images - 1}?side=64")
    assert answer.headers["content-type"] == "image/webp"
    assert len(answer.content) < 20_000
    assert explored.client.get(f"/thumbnail/1/{n_images}").status_code == 404
