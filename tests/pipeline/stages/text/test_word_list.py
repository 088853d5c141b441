"""Names from a list of words as a job: the words that the model knows, the nearest of them, and their nodes."""

import numpy as np
import pytest
import torch
from sqlalchemy import text
from tests.pipeline.in_process import run_jobs
from tests.small import bare_scoring, register_small, small_request
from transformers import AutoTokenizer, CLIPModel

from hsae.catalog import Dataset, transaction
from hsae.demo import clip_folder
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.inputs.stored import read_taxonomy
from hsae.pipeline.planning.submit import submit
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.store.keys import weights_key
from hsae.store.tensors import get_tensors
from hsae.text.config import NameSettings

WORDS = ("Shark", "bird", "toad", "striped", "red", "a bird of prey", "frog", "zzzz", "round", "owl.n.01")
TEMPLATES = ("{}", "a drawing of a {}", "{}: {gloss}")  # words of a list have no gloss


def slow_embeddings(words):
    """One word after the other through the model of transformers; the mean of the templates, all at length 1."""
    model = CLIPModel.from_pretrained(clip_folder(), dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(clip_folder())
    found = []
    for word in words:
        parts = []
        for template in TEMPLATES[:2]:
            given = tokenizer([template.replace("{}", word)], return_tensors="pt")
            with torch.no_grad():
                whole = model.get_text_features(**{name: given[name] for name in ("input_ids", "attention_mask")})
            vector = whole.pooler_output[0].double().numpy()
            parts.append(vector / np.linalg.norm(vector))
        mean = np.mean(parts, axis=0)
        found.append(mean / np.linalg.norm(mean))
    return np.array(found)


def named_node(word, taxonomy):
    """The one node whose id, name or lemma the word is; None where there is none, or several."""
    owners = {
        synset.name
        for synset in taxonomy.synsets
        for name in (synset.id, synset.name, *synset.lemmas)
        if name.replace("_", " ").lower() == word.replace("_", " ").lower()
    }
    return owners.pop() if len(owners) == 1 else None


def test_latents_are_called_by_the_nearest_words_of_a_list(service, tmp_path):
    register_small(service, n_classes=8)
    path = tmp_path / "words.txt"
    path.write_text("".join(f"{word}\n" for word in WORDS))
    names = NameSettings(by=str(clip_folder()), vocabulary=str(path), templates=TEMPLATES, n_shuffles=9)
    request = small_request(
        model=str(clip_folder()), layers=(2,), saes=(SaeConfig(kind="topk", k=4, expansion=1, n_steps=60),),
        scoring=bare_scoring(), own={"names": names},
        extraction=ExtractionConfig(shard_images=40, batch_size=20, hook="embedding"),
    )  # fmt: skip
    assert set(run_jobs(service, submit(request, service.settings, service.sessions))) == {"succeeded"}

    def query(statement):
        with transaction(service.sessions) as session:
            return [dict(row) for row in session.execute(text(statement)).mappings()]

    (made,) = query("SELECT * FROM name_set")
    assert (made["method"], made["n_words"], made["n_unknown"]) == ("direction", len(WORDS) - 2, 2)
    with transaction(service.sessions) as session:
        taxonomy = read_taxonomy(service.store, dataset_ref(session.query(Dataset).one()))
    known = [word for word in WORDS if word not in ("striped", "zzzz")]
    units = slow_embeddings(known)
    centred = units - units.mean(axis=0)
    (sae,) = query("SELECT key, weights_sha256, config FROM sae")
    tensors, _ = get_tensors(service.store, weights_key(sae["key"], sae["weights_sha256"]), sha256=None)
    directions = SparseAutoencoder.from_tensors(tensors, SaeConfig.parse(sae["config"])).decoder_weight.double()
    rows = query("SELECT n.*, y.name, t.name AS label FROM latent_name n JOIN name_set s ON s.id = n.name_set_id"
                 " LEFT JOIN synset y ON y.id = n.synset_id JOIN latent l ON l.analysis_id = s.analysis_id"
                 " AND l.basis = 'sae' AND l.latent = n.latent AND NOT l.is_dead"
                 " LEFT JOIN synset t ON t.id = l.label_synset_id AND l.label_f1 > 0")  # fmt: skip
    assert len(rows) == made["n_latents"] > 10
    for row in rows:
        direction = directions[row["latent"]].detach().numpy()
        cosines = [float(direction @ word) / np.linalg.norm(direction) / np.linalg.norm(word) for word in centred]
        best, second = sorted(range(len(known)), key=lambda word: -cosines[word])[:2]
        assert (row["word"], row["runner_up"]) == (known[best], known[second])
        assert (row["score"], row["margin"]) == pytest.approx(
            (cosines[best], cosines[best] - cosines[second]), abs=1e-5
        )
        assert row["name"] == named_node(known[best], taxonomy)
        assert (row["agreement_height"] is None) == (row["name"] is None or row["label"] is None)
        if row["name"] is not None and row["name"] == row["label"]:
            assert row["agreement_height"] == 0
    of_nodes = {row["word"]: row["name"] for row in rows}
    assert of_nodes.items() & {("Shark", "shark.n.01"), ("bird", "bird.n.01"), ("owl.n.01", "owl.n.01")}
    assert {None} < set(of_nodes.values())
    both = [row for row in rows if row["name"] is not None and row["label"] is not None]
    agreement = query("SELECT * FROM name_agreement ORDER BY height")
    assert agreement[-1]["n_agree"] == len(both)
    for level in agreement:
        assert level["n_agree"] == sum(row["agreement_height"] <= level["height"] for row in both)
