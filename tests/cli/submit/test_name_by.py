"""submit --name-by: a text model and a vocabulary, and one line for what cannot be."""

import json
import shutil

from tests.cli.refusals import MODEL, assert_one_line, counts
from tests.small import register_small

from hsae.demo import clip_folder

CLIP = str(clip_folder())


def test_submit_takes_a_model_and_a_file_of_words(service, admin, tmp_path):
    register_small(service, n_classes=2)
    path = tmp_path / "words.txt"
    path.write_text("dog\nfish\nqqqq\nstriped\n")
    command = ("submit", "--layer", 1, *MODEL, "--split", "none", "--sae", "topk", "--k", 4, "--expansion", 2)
    plain = json.loads(admin(service, *command, "--json").stdout)
    assert "names" not in {job["kind"] for job in plain["jobs"]}
    planned = admin(service, *command, "--name-by", CLIP, "--vocabulary", path, "--json")
    assert planned.exit_code == 0, planned.output
    (job,) = (job for job in json.loads(planned.stdout)["jobs"] if job["kind"] == "names")
    assert job["title"].endswith("on small by clip-emoji with 4 words of words.txt")
    assert json.loads(planned.stdout)["study"] == plain["study"]  # names change no result
    study = tmp_path / "study.yaml"
    study.write_text(
        f"layers: 1\nmodel: {MODEL[1]}\nsplit: none\nsaes: [{{kind: topk, k: 4, expansion: 2}}]\n"
        f"names: {{by: {CLIP}, vocabulary: {path}}}\n"
    )
    again = json.loads(admin(service, "submit", "--spec", study, "--yes", "--json").stdout)
    assert {job["id"] for job in again["jobs"] if job["kind"] == "names"} == {job["id"]}


def test_what_cannot_be_had_is_refused_before_any_job(service, admin, tmp_path):
    register_small(service, n_classes=2)
    before = counts(service)
    command = ("submit", "--layer", 1, *MODEL, "--split", "none")
    empty, unknown = tmp_path / "empty.txt", tmp_path / "unknown.txt"
    empty.write_text("\n# nothing\n")
    unknown.write_text("qqqq\nzzzz\n")
    no_tokenizer = tmp_path / "clip"
    shutil.copytree(clip_folder(), no_tokenizer)
    (no_tokenizer / "tokenizer.json").unlink()
    for options, line in (
        (("--name-by", MODEL[1]), "is of type dinov2 and has no text tower: choose a CLIP or SigLIP model"),
        (("--name-by", tmp_path / "none"), "there is no folder"),
        (("--name-by", no_tokenizer), "has no tokenizer"),
        (("--name-by", CLIP, "--vocabulary", empty), "is empty: write at least two words, a word a line"),
        (("--name-by", CLIP, "--vocabulary", unknown), "knows no word of the vocabulary (qqqq, zzzz...)"),
        (("--name-by", CLIP, "--vocabulary", tmp_path / "none.txt"), "cannot be read (No such file or directory)"),
        (("--vocabulary", empty), "--vocabulary says how latents are named: add --name-by MODEL"),
    ):
        assert_one_line(admin(service, *command, *options), line)
    assert counts(service) == before
    found = admin(service, "results", "names")
    assert found.exit_code == 0
    assert "No names fit" in found.stdout
