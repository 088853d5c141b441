"""The page of made-up content: its size with twelve layers of a large tree, and what a browser must not run."""

import base64
import json
import random
import re
from dataclasses import replace

import pyarrow as pa
import pytest
from tests.report.charts.rows import EVIL

from hsae.pipeline.exports.report_cards import _classes_of_images
from hsae.report.charts import ActivationHistogram, taxonomy_chart
from hsae.report.page import Card, CardImage, ImageRow, ReportContent, Table, Value, render_report
from hsae.report.page.tables import csv_text

N_NODES, N_LAYERS = 1860, 12


def card(number: int, image: str | None = None, *, label: str = "dog.n.01") -> Card:
    images = [CardImage(image, f"{label}, activation 1.5", True) for _ in range(8)]
    return Card(
        anchor=f"latent-1-{number}", label=label, definition="", summary=f"layer 1 · topk SAE · latent {number}",
        layer=1, sae="topk SAE", scale=0.5, rows=[ImageRow("strongest images", images)],
        values=[Value("F1", "0.50", "shuffled tree 0.10")] * 9,
        histogram=ActivationHistogram([i / 20 for i in range(21)], [12345] * 20, [6789] * 20, 10),
    )  # fmt: skip


def content(**changes) -> ReportContent:
    given = {
        "title": "vit on birds", "study": 1, "facts": [("Split", "none")], "answer": "Yes", "verdict": "It rises.",
        "beyond": "", "known": "", "in_sample": False, "hero": {}, "layers": {}, "pareto": {}, "taxonomy": None,
        "cards": [], "n_labelled": 9, "unmeasured": [], "tables": [], "version": "1",
    }  # fmt: skip
    return ReportContent(**{**given, **changes})


def test_twelve_layers_of_two_saes_over_a_thousand_classes_stay_below_20_mb():
    """A tree of the size of ImageNet's, and images of as many bytes as a photograph of 112 pixels has at most."""
    draw = random.Random(0)
    nodes = [
        {"synset_id": n, "synset": f"some_rather_long_name_of_a_synset_{n}.n.01",
         "hypernym_ids": [draw.randrange(n)] if n else [], "n_classes": N_NODES - n, "n_images": 1300}
        for n in range(N_NODES)
    ]  # fmt: skip
    analyses = [
        {"analysis_id": 100 * sae + layer, "layer": layer, "sae": f"kind {sae} SAE"}
        for sae in (1, 2)
        for layer in range(N_LAYERS)
    ]
    scores = [
        {"analysis_id": row["analysis_id"], "synset_id": n, "latent": 12_287, "f1_adjusted": draw.random(),
         "q_node": 0.5, "n_images": 12_345, "baseline": "random", "f1_adjusted_baseline": 0.123456,
         "f1_adjusted_shuffled": 0.2}
        for row in analyses for n in range(N_NODES)
    ]  # fmt: skip
    picture = "data:image/webp;base64," + base64.b64encode(draw.randbytes(6000)).decode()
    table = Table("nodes", "Nodes", {name: name for name in ("synset_id", *scores[0])}, scores[:20_000], shown=False)
    page = render_report(
        content(
            taxonomy=taxonomy_chart(nodes, scores, analyses),
            cards=[card(n, picture) for n in range(72)],
            tables=[table],
        )
    )
    assert len(page.encode()) < 20_000_000


@pytest.mark.parametrize(
    "name", [EVIL, "</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7*7 }}"]
)
def test_names_are_text_wherever_they_stand(name):
    table = Table("t", name, {"a": name}, [{"a": name}], note=name)
    page = render_report(
        content(
            title=name, facts=[(name, name)], answer=name, verdict=name, known=name, beyond=name, unfinished=name,
            unmeasured=[name], tables=[table], cards=[card(1, label=name)], hero={name: {"data": [], "layout": {}}},
            abouts={name: name},
        )
    )  # fmt: skip
    assert name not in page or name == "{{ 7*7 }}"
    assert page.count("<script") == 3
    assert "<img src=x" not in page


def test_only_scripts_with_a_known_checksum_run():
    page = render_report(content())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.count("sha256-") == 2
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    assert "unsafe-eval" not in policy


def test_what_is_no_number_in_json_is_null():
    page = render_report(content(hero={"a": {"data": [{"y": [float("nan"), float("inf"), 1.0]}], "layout": {}}}))
    data = json.loads(re.search(r'id="report-data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["figures"]["hero-0"]["data"][0]["y"] == [None, None, 1.0]


def test_a_card_has_room_for_further_rows_of_images():
    first = card(1, "data:,a")
    row = ImageRow("relevancy", [CardImage("data:,b", "map", None)])
    page = render_report(
        content(cards=[Card(**{f: getattr(first, f) for f in first.__slots__} | {"rows": [*first.rows, row]})])
    )
    assert page.count('class="images"') == 2
    assert ">relevancy<" in page


def test_a_card_says_that_its_latent_is_used():
    cards = [replace(card(1), is_used=True), card(2)]
    page = render_report(content(cards=cards))
    used, other = re.findall(r'<details class="card".*?</details>', page, re.DOTALL)
    badge = re.search(r'<span class="used" title="([^"]*)">([^<]*)</span>', used)
    assert badge[2] == "fires for it and used for it"
    assert badge[1].startswith("Without this latent its label loses more than other classes do")
    assert "used for it" not in other


def test_a_page_without_anything_to_draw():
    page = render_report(content(unfinished="2 jobs run."))
    for absent in ('id="taxonomy"', 'id="latents"', 'id="saes"'):
        assert absent not in page
    assert "Everything that this page has a place for was measured." in page


def test_csv_has_the_names_of_the_columns():
    table = Table("t", "T", {"a": "heading", "b": "B"}, [{"a": 'x,"y"', "b": None, "c": 1}])
    assert csv_text(table) == 'a,b\r\n"x,""y""",\r\n'


def test_classes_of_images_with_one_or_several_labels():
    single = pa.table({"class_id": ["b", "a", "b"]})
    positions, starts = _classes_of_images(single, ["a", "b"])
    assert (positions.tolist(), starts.tolist()) == ([1, 0, 1], [0, 1, 2, 3])
    several = pa.table({"class_ids": [["b"], ["a", "b"]]})
    positions, starts = _classes_of_images(several, ["a", "b"])
    assert (positions.tolist(), starts.tolist()) == ([1, 0, 1], [0, 1, 3])
