"""Every page of a real study: its values are those of the catalog, and what one copies from it gives its rows."""

import html
import re
from urllib.parse import urlencode, urlsplit

import pytest
from benchmarks.large_study.explorer_addresses import pages
from benchmarks.large_study.explorer_pages import GOAL_MS, serving, timed
from starlette.routing import Route
from tests.explorer.conftest import CLASS, FILE

from hsae.explorer.pages.latents import PAGE_ROWS
from hsae.explorer.security import HEADERS, POLICY
from hsae.explorer.shown.addresses import address
from hsae.explorer.shown.numbers import adjusted, number

SCRIPTS = re.compile(r"<script(?![^>]*\b(src|type=\"application/json\"))", re.IGNORECASE)


def every_page(explored) -> dict[str, str]:
    """An address of every kind of page, by name."""
    study, last = (
        explored.wordnet,
        explored.one("SELECT max(i.analysis_id) FROM analysis_input i WHERE dataset = 'small'"),
    )
    node = explored.one("SELECT id FROM synset WHERE name = 'animal.n.01'")
    latent = explored.one(
        "SELECT latent FROM latent WHERE analysis_id = :a AND basis = 'sae' ORDER BY n_fire DESC LIMIT 1",
        a=last,
    )  # fmt: skip
    (mapped,) = explored.sql(
        "SELECT s.analysis_id, v.latent FROM latent_map v JOIN map_set s ON s.id = v.map_set_id"
        " WHERE map_index IS NOT NULL ORDER BY v.rank, v.latent LIMIT 1"
    )
    label = explored.one("SELECT id FROM synset WHERE name = :name", name=CLASS)
    hostile = explored.one("SELECT max(id) FROM analysis")
    dataset = explored.one("SELECT id FROM dataset WHERE name = 'hostile'")
    return {
        "studies": "/",
        "study": f"/study/{study}",
        "tree": f"/tree?study={study}",
        "picture": f"/tree?study={study}&view=picture",
        "search": f"/tree?study={study}&q=animal",
        "node": f"/node/{node}?study={study}",
        "latents": f"/latents?study={study}",
        "latents of all": f"/latents?study={study}&layer=all",
        "latents of a baseline": f"/latents?study={study}&basis=exemplar",
        "latent": f"/latent/{last}/sae/{latent}",
        "latent with maps": f"/latent/{mapped['analysis_id']}/sae/{mapped['latent']}",
        "column": f"/latent/{last}/neuron/3",
        "image": f"/image/1/5?study={study}",
        "pairs": f"/pairs?study={study}&layer=all",
        "pairs of shuffles": f"/pairs?study={study}&basis=shuffled_taxonomy",
        "encode": f"/encode?study={study}",
        "edit": f"/edit?study={study}",
        "hostile study": f"/study/{explored.hostile}",
        "hostile tree": f"/tree?study={explored.hostile}",
        "hostile picture": f"/tree?study={explored.hostile}&view=picture",
        "hostile node": f"/node/{label}?study={explored.hostile}",
        "hostile latents": f"/latents?study={explored.hostile}",
        "hostile latent": f"/latent/{hostile}/sae/0",
        "hostile image": f"/image/{dataset}/0",
        "hostile search": f"/tree?study={explored.hostile}&{urlencode({'q': '<script>'})}",
        "nothing": "/nothing",
    }


def cells(page: str) -> list[list[str]]:
    """The texts of the cells of the rows of all tables."""
    rows = re.findall(r"<tr\b[^>]*>(.*?)</tr>", page, re.DOTALL)
    texts = [re.findall(r"<t[dh]\b[^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in rows]
    return [[" ".join(html.unescape(re.sub(r"<[^>]+>", " ", cell)).split()) for cell in row] for row in texts]


def copied(page: str, kind: str) -> list[str]:
    """What the page offers to copy."""
    return [html.unescape(found) for found in re.findall(rf'<pre[^>]* class="{kind}">(.*?)</pre>', page, re.DOTALL)]


def test_every_page_is_there_and_has_no_script_of_its_own_and_strict_headers(explored):
    for name, path in every_page(explored).items():
        answer = explored.client.get(path)
        assert answer.status_code == (404 if name == "nothing" else 200), (name, answer.text[:500])
        assert not SCRIPTS.search(answer.text), name
        assert " style=" not in answer.text, name
        assert " onclick" not in answer.text, name
        policy = answer.headers["content-security-policy"]
        assert policy.startswith(POLICY), name
        assert ("unsafe" in policy) == (name in {"picture", "hostile picture", "study"}), name
        assert {key: answer.headers[key] for key in HEADERS} == HEADERS, name


def test_the_benchmark_asks_for_every_kind_of_page(explored, tmp_path):
    asked, lacking = pages(explored.service.sessions, explored.wordnet)
    for path in asked.values():
        explored.get(path)
    paths = [urlsplit(path).path for path in asked.values()]
    routes = [route for route in explored.client.app.routes if isinstance(route, Route) and "GET" in route.methods]
    never = {route.path for route in routes if not any(route.path_regex.match(path) for path in paths)}
    assert never == {"/plotly.min.js"}
    assert "used=true" in asked["latents of all layers used for their label"]
    assert lacking == ["latents by their names by text, which this study has not"]
    with serving(explored.service.settings, tmp_path) as here:
        median, first, worst = timed(here, {"healthz": asked["healthz"]}, 2)
    assert (median.name, first.name, worst.name) == ("healthz", "healthz, first", "healthz, worst")
    assert (median.goal, first.goal, worst.goal) == (GOAL_MS, None, None)
    assert worst.value >= median.value > 0


def test_names_of_classes_and_files_are_text(explored):
    shown = 0
    for name, path in every_page(explored).items():
        page = explored.get(path, 404 if name == "nothing" else 200)
        assert "alert('" not in re.sub(r"&lt;.*?&gt;", "", page) or name == "hostile picture", name
        assert "<script>alert" not in page, name
        assert "<img src=x" not in page, name
        assert "root<b>" not in page, name
        shown += html.escape(CLASS, quote=False) in page or html.escape(CLASS) in page.replace("&#39;", "&#x27;")
    assert shown >= 3
    image = explored.get(every_page(explored)["hostile image"])
    assert FILE in html.unescape(image)
    assert "\\u003cscript\\u003ealert" in explored.get(every_page(explored)["hostile picture"])


def test_what_one_copies_as_sql_gives_the_rows(explored):
    n_queries = 0
    for name, path in every_page(explored).items():
        if name == "nothing":
            continue
        for query in copied(explored.get(path), "sql"):
            explored.db_query(query)
            n_queries += 1
    assert n_queries > 20
    page = explored.get(every_page(explored)["latents of all"])
    (query,) = copied(page, "sql")
    rows = explored.db_query(query)
    shown = [row for row in cells(page) if row and row[0].isdecimal()]
    assert [int(row[0]) for row in shown] == [row["latent"] for row in rows]
    assert [row[5] for row in shown] == [adjusted(row["f1_adjusted"]) for row in rows]


def test_the_numbers_of_a_study_are_those_of_the_catalog(explored):
    page = explored.get(f"/study/{explored.wordnet}")
    rows = explored.sql("SELECT * FROM layer_progress WHERE dataset = 'small' AND basis = 'sae' ORDER BY layer")
    shown = [row for row in cells(page) if row and row[0] in {"1", "3"}]
    assert [row[0] for row in shown] == [str(row["layer"]) for row in rows]
    assert [row[2] for row in shown] == [number(row["fvu"]) for row in rows]
    for layer, shown_row in zip((1, 3), shown, strict=True):
        (interval,) = explored.sql(
            "SELECT v.* FROM layer_interval v JOIN analysis_input i USING (analysis_id)"
            " WHERE i.dataset = 'small' AND i.layer = :layer AND basis = 'sae' AND metric = 'coherence_excess'",
            layer=layer,
        )
        assert shown_row[5] == number(interval["value"])
        assert shown_row[6] == f"[{number(interval['low'])}, {number(interval['high'])}]"


def test_a_latents_page_has_its_numbers_beside_their_nulls(explored):
    path = every_page(explored)["latent"]
    analysis, latent = (int(part) for part in re.findall(r"\d+", path))
    (row,) = explored.sql(
        "SELECT v.*, v.n_fire::float / n.n AS d, r.n_images::float / n.n AS p FROM latent_label v"
        " JOIN node_score r USING (analysis_id, synset_id, basis) JOIN analysis_input i USING (analysis_id),"
        " coalesce(i.n_score, i.n_images) n(n)"
        " WHERE v.analysis_id = :a AND basis = 'sae' AND v.latent = :l AND r.is_node_best",
        a=analysis, l=latent,
    )  # fmt: skip
    page = explored.get(path)
    found = {cell[0]: cell[1:] for cell in cells(page) if len(cell) > 1}
    assert found["adjusted F1 at its label"][0] == adjusted(row["f1_adjusted"])
    by_chance = {"F1": 2 * row["d"] * row["p"] / (row["d"] + row["p"]), "precision": row["p"], "recall": row["d"]}
    for name, chance in by_chance.items():
        assert found[name] == [number(row[name.lower()]), f"{number(chance)} by chance"]
    assert found["coherence, bits"][0] == number(row["coherence"])
    assert f"Latent {latent}: {row['synset']}" in page
    images = explored.one("SELECT top_images FROM latent WHERE analysis_id = :a AND basis = 'sae' AND latent = :l",
                          a=analysis, l=latent)  # fmt: skip
    assert re.findall(r'/thumbnail/1/(\d+)\?side=256"', page) == [str(image["image"]) for image in images]
    for image in images:
        label = explored.one(
            "SELECT y.name FROM synset y WHERE y.wnid = :wnid AND taxonomy = 'wordnet-3.0'",
            wnid=explored.sources.listings.images(_ref(explored), [image["image"]])[image["image"]].classes[0],
        )
        assert f"{label}<br>" in page


def test_an_images_page_has_the_latents_that_fire_there(explored):
    page = explored.get(every_page(explored)["image"])
    (stored,) = explored.sql(
        "SELECT a.key, a.activations_sha256 FROM analysis a JOIN analysis_input i ON i.analysis_id = a.id"
        " WHERE i.dataset = 'small' ORDER BY i.layer DESC LIMIT 1"
    )
    firing = explored.sources.latents.of_image(stored["key"], stored["activations_sha256"], 5)
    shown = [(int(row[0]), row[1]) for row in cells(page) if row and row[0].isdecimal()]
    assert shown == [
        (latent, number(activation))
        for latent, activation in zip(firing.where.tolist(), firing.activations.tolist(), strict=True)
    ]


def test_a_list_of_latents_shows_each_once_whatever_it_is_sorted_by(explored):
    for sort, column in (
        ("f1_adjusted", "label_f1_adjusted"),
        ("coherence", "coherence_excess"),
        ("density", "density"),
    ):
        path, found = address("/latents", study=explored.wordnet, layer="all", sort=sort), []
        while path:
            page = explored.get(path)
            found += re.findall(r'<a href="/latent/(\d+)/sae/(\d+)">\d+</a>', page)
            following = re.search(r'rel="next" href="([^"]+)"', page)
            path = html.unescape(following[1]) if following else None
        rows = explored.sql(
            f"SELECT l.analysis_id, l.latent FROM latent l JOIN analysis_input i USING (analysis_id)"
            f" WHERE basis = 'sae' AND i.dataset = 'small' AND {column} IS NOT NULL"
            f" ORDER BY {column} DESC, l.analysis_id, l.latent"
        )
        assert len(rows) > (3 * PAGE_ROWS if sort == "density" else 10)
        assert [(int(a), int(b)) for a, b in found] == [(row["analysis_id"], row["latent"]) for row in rows], sort


def test_filters_are_those_of_the_catalog(explored):
    path = address(
        "/latents", study=explored.wordnet, layer=3, under="animal.n.01", min_f1_adjusted=0.2, max_density=0.5, q="bird"
    )
    former = explored.get(path.replace("min_f1_adjusted", "min_f1"))
    assert cells(former) == cells(explored.get(path))
    assert re.search(r'name="min_f1_adjusted"[^>]*value="0.2"', former)
    found = re.findall(r'<a href="/latent/(\d+)/sae/(\d+)">\d+</a>', explored.get(path))
    rows = explored.sql(
        "SELECT l.analysis_id, l.latent FROM latent l JOIN analysis_input i USING (analysis_id)"
        " JOIN hypernym_closure c ON c.descendant_id = l.label_synset_id JOIN synset y ON y.id = c.ancestor_id"
        " WHERE basis = 'sae' AND i.dataset = 'small' AND y.name = 'animal.n.01' AND label_f1_adjusted >= 0.2"
        " AND density <= 0.5 AND i.layer = 3 AND label_synset_id IN (SELECT id FROM synset WHERE name ILIKE '%bird%'"
        " OR array_to_string(lemmas, ' ') ILIKE '%bird%')"
    )
    assert 0 < len(rows) < 50
    assert sorted(found) == sorted((str(row["analysis_id"]), str(row["latent"])) for row in rows)


def test_the_tree_opens_and_closes_by_its_address(explored):
    page = explored.get(f"/tree?study={explored.wordnet}&depth=1")
    closed = re.search(r'<a class="toggle" href="([^"#]+)#n(\d+)" aria-label="Open ([^"]+)"', page)
    opened = explored.get(html.unescape(closed[1]))
    assert f'aria-label="Close {closed[3]}"' in opened
    assert len(cells(opened)) > len(cells(page))
    again = re.search(rf'<a class="toggle" href="([^"#]+)#n{closed[2]}" aria-label="Close', opened)
    assert cells(explored.get(html.unescape(again[1]))) == cells(page)


def test_python_names_the_analysis_of_the_page(explored):
    (code,) = copied(explored.get(f"/latents?study={explored.wordnet}&under=animal.n.01&min_f1_adjusted=0.3"), "python")
    assert code.splitlines() == [
        "import hsae", "", "ws = hsae.open()", f"st = ws.study({explored.wordnet})",
        'an = st.analysis(layer=3, sae="topk")', 'an.latents(under="animal.n.01", min_f1_adjusted=0.3)',
    ]  # fmt: skip
    for name, path in every_page(explored).items():
        for code in copied(explored.get(path, 404 if name == "nothing" else 200), "python"):
            compile(code, name, "exec")


@pytest.mark.parametrize("word", ["animal", "animal.n.01", "n00015388", "creature"])
def test_a_search_finds_a_node_by_its_name_its_words_and_its_number(explored, word):
    page = explored.get(f"/tree?study={explored.wordnet}&q={word}")
    assert "animal.n.01" in page


def test_a_search_shows_what_the_best_latents_look_like(explored):
    """And leads to all latents of the node: which latents are animal latents, and what do they look like?"""
    page = explored.get(f"/tree?study={explored.wordnet}&q=animal")
    (best,) = explored.sql(
        "SELECT v.analysis_id, v.latent, l.top_images FROM node_best_latent v JOIN latent l USING (analysis_id, basis,"
        " latent) JOIN analysis_input i USING (analysis_id) WHERE i.dataset = 'small' AND v.layer = 3"
        " AND v.basis = 'sae' AND v.synset = 'animal.n.01'"
    )
    (row,) = (row for row in re.findall(r"<tr>.*?</tr>", page, re.DOTALL) if ">animal.n.01</a>" in row)
    assert f'href="/latent/{best["analysis_id"]}/sae/{best["latent"]}"' in row
    shown = [int(number) for number in re.findall(r'src="/thumbnail/\d+/(\d+)', row)]
    assert shown == [top["image"] for top in best["top_images"]][:4]
    assert "under=animal.n.01" in row


def _ref(explored):
    with explored.sources.reading() as session:
        return explored.sources.dataset(session, 1)
