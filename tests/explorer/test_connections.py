"""Few connections serve all pages: none is held while the object store answers, and running out of them is said."""

import pytest
from sqlalchemy import create_engine
from starlette.testclient import TestClient
from tests.explorer.test_pages import every_page

from hsae.explorer.app import make_app
from hsae.explorer.reading.sources import Cache, Sources


@pytest.mark.parametrize("name", ["image", "latent", "hostile image"])
def test_no_connection_is_held_while_the_store_answers(explored, monkeypatch, name):
    held = {}
    sources = explored.sources

    def watch(owner: object, method: str) -> None:
        answer = getattr(owner, method)

        def asked(*arguments, **named):
            held[method] = sources._engine.pool.checkedout()
            return answer(*arguments, **named)

        monkeypatch.setattr(owner, method, asked)

    watch(sources.listings, "images")
    watch(sources.latents, "of_image")
    watch(sources.latents, "of_latent")
    watch(sources.thumbnails, "get")
    path = every_page(explored)[name]
    explored.get(path)
    if "image" in name:
        explored.get(path.replace("/image/", "/thumbnail/"))
    expected = {"images", "of_image", "get"} if "image" in name else {"images", "of_latent"}
    assert held == dict.fromkeys(expected, 0)


def test_a_lack_of_connections_is_one_line(explored, tmp_path):
    sources = Sources(explored.service.settings, Cache(tmp_path))
    few = create_engine(sources._engine.url, pool_size=1, max_overflow=0, pool_timeout=0)
    sources._sessions.configure(bind=few)
    try:
        with TestClient(make_app(sources), base_url="http://127.0.0.1") as client:
            with sources.reading() as session:
                session.connection()
                for path in ("/healthz", "/", "/thumbnail/1/1"):
                    answer = client.get(path)
                    assert answer.status_code == 503
                    assert "All connections to the database are in use: try again in a moment." in answer.text
            assert client.get("/healthz").text == "ok\n"
    finally:
        few.dispose()
        sources.close()
