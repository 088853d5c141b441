"""Study files: what they spread out to, and one line for every mistake."""

from pathlib import Path

import click
import pytest

from hsae.cli.framework.extraction_options import extraction_options
from hsae.errors import UserError
from hsae.extraction.config import ExtractionConfig, chosen_precision
from hsae.hierarchy.config import ComparisonConfig, ScoringConfig
from hsae.pipeline.planning.layer_list import parse_layers
from hsae.pipeline.planning.study_file import MAX_SAES, read_spec
from hsae.sae.config import SaeConfig
from hsae.settings import Settings
from hsae.split_config import SplitConfig

PLAIN = "layers: [1]\nsaes:\n  - {kind: relu}\n"


@pytest.fixture
def study(tmp_path):
    """Writes a study file and reads it."""

    def read(text: str | bytes):
        path = tmp_path / "study.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_spec(path)

    return read


def test_lists_are_the_sweep(study):
    spec = study(
        """
        name: widths and seeds
        model: facebook/dinov2-base
        revision: main
        dataset: birds
        layers: [0, 4-6, 11]
        saes:
          - {kind: topk, expansion: [4, 8], k: [16, 32], seed: [0, 1]}
          - {kind: relu, l1_coefficient: [0.1, 1e-2], n_steps: 2000}
        extraction: {tokens: mean, dtype: bfloat16}
        scoring: {threshold: 0.5, controls: [untrained, neuron]}
        priority: 3
        """
    )
    assert (spec.name, spec.revision, spec.dataset) == ("widths and seeds", "main", "birds")
    assert spec.layers == (0, 4, 5, 6, 11)
    topk = [
        SaeConfig(kind="topk", expansion=expansion, k=k, seed=seed)
        for expansion in (4, 8)
        for k in (16, 32)
        for seed in (0, 1)
    ]
    relu = [SaeConfig(kind="relu", l1_coefficient=l1, n_steps=2000) for l1 in (0.1, 0.01)]
    assert list(spec.saes) == topk + relu
    request = spec.request(Settings(), folder=Path("/x"))
    assert (request.name, request.model, request.priority) == ("widths and seeds", "facebook/dinov2-base", 3)
    assert request.extraction == ExtractionConfig(tokens="mean", dtype="bfloat16")
    assert request.scoring == ScoringConfig(threshold=0.5, controls=("neuron", "untrained"))
    assert request.saes == spec.saes


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("", SplitConfig()),
        ("split: none", None),
        ("split: .6/.2/.2", SplitConfig(train=0.6, select=0.2, score=0.2)),
        ("split: {seed: 3}", SplitConfig(seed=3)),
        ("split: {fold: 1}", SplitConfig(fold=1)),
        ("split: {train: 0.6, select: 0.1, score: 0.3}", SplitConfig(train=0.6, select=0.1, score=0.3)),
    ],
)
def test_a_split(study, text, split):
    request = study(f"{PLAIN}{text}").request(Settings(), folder=Path("/x"))
    assert (request.split, request.cross_fit) == (split, True)


def test_one_way(study):
    assert study(f"{PLAIN}cross_fit: false").request(Settings(), folder=Path("/x")).cross_fit is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("split:", "split: it is empty: write none"),
        ("split: half", "split: 'half' is no split: write three shares of train, select and score"),
        ("split: .5/.5/.5", "split: '.5/.5/.5' is no split: the shares of train, select and score sum to 1.5"),
        ("split: 1/0/0", "split: '1/0/0' is no split: train Input should be less than 1; select Input should be"),
        ("split: {train: 0}", "split.train: 0 is not valid: input should be greater than 0"),
        ("split: {train: 0.9}", "split: {'train': 0.9} is not valid: value error, the shares of train, select and"),
        ("split: {test: 0.5}", "split.test is no field of a study: choose from train, select, score, seed"),
        ("split: [0.5, 0.25, 0.25]", "split: "),
    ],
)
def test_splits_that_cannot_be(study, text, message):
    with pytest.raises(UserError) as caught:
        study(f"{PLAIN}{text}")
    assert str(caught.value).split(": ", 1)[1].startswith(message)
    assert "\n" not in str(caught.value)


def test_every_setting_of_an_sae_can_be_swept(study):
    for name in set(SaeConfig(kind="topk").model_dump()) - {"kind"}:
        default = SaeConfig.defaults()[name]
        first = "null" if default is None else default
        second = 0.25 if isinstance(default, float) else 2
        assert len(study(f"layers: 1\nsaes: [{{kind: topk, {name}: [{first}, {second}]}}]").saes) == 2, name


def test_settings_may_be_called_as_on_the_command_line(study):
    spec = study(
        "layers: 1\nsaes: [{kind: relu, l1: [0.1, 0.2], steps: 30, batch-size: 64, learning-rate: 0.01}]\n"
        "extraction: {views: 2, shard-images: 7}\n"
    )
    plain = {"kind": "relu", "n_steps": 30, "batch_size": 64, "learning_rate": 0.01}
    assert spec.saes == tuple(SaeConfig(l1_coefficient=l1, **plain) for l1 in (0.1, 0.2))
    assert spec.extraction == ExtractionConfig(n_views=2, shard_images=7)


@pytest.mark.parametrize(
    "setting",
    ["tokens: patches", "hook: attention", "patches-per-image: 4", "dtype: bfloat16", "compute-dtype: bfloat16",
     "compute-dtype: auto", "decode: scaled", "part-images: 8", "views: 2", "shard-images: 7"],
)  # fmt: skip
def test_every_option_of_an_extraction_is_one_of_a_study_file(study, setting):
    name, value = setting.split(": ")
    (option,) = (one for one in extraction_options(click.command(lambda: None)).params if f"--{name}" in one.opts)
    ours = {"views": "n_views", "compute-dtype": "precision"}.get(name, name.replace("-", "_"))
    given = chosen_precision("auto", "float32") if value == "auto" else option.type.convert(value, option, None)
    assert getattr(study(f"{PLAIN}extraction: {{{setting}}}").extraction, ours) == given


def test_the_options_of_an_extraction_are_all_tried_above():
    options = {opt for one in extraction_options(click.command(lambda: None)).params for opt in one.opts}
    (mark,) = test_every_option_of_an_extraction_is_one_of_a_study_file.pytestmark
    assert {f"--{setting.split(': ')[0]}" for setting in mark.args[1]} == options


def test_duplicates_collapse(study):
    spec = study(
        "layers: [3, 1-3, 1]\nsaes:\n  - {kind: [topk], k: [32, 32]}\n  - {kind: topk}\n  - {kind: topk, seed: 0}\n"
    )
    assert spec.layers == (1, 2, 3)
    assert spec.saes == (SaeConfig(kind="topk"),)


def test_a_block_of_both_kinds_gives_each_what_applies_to_it(study):
    spec = study("layers: all\nsaes: [{kind: [relu, topk], k: [8, 16], l1_coefficient: 0.1, expansion: 2}]")
    assert spec.layers == "all"
    assert spec.saes == (
        SaeConfig(kind="relu", l1_coefficient=0.1, expansion=2),
        SaeConfig(kind="topk", k=8, expansion=2),
        SaeConfig(kind="topk", k=16, expansion=2),
    )


def test_a_study_without_a_name_is_called_as_its_file(study):
    assert study(PLAIN).name == "study"


def test_what_is_left_out_comes_from_the_settings(study):
    settings = Settings(model="some/model", max_image_pixels=10**6)
    request = study(PLAIN + "extraction: {tokens: patches}\n").request(settings, folder=Path("/x"), priority=4)
    assert (request.model, request.dataset, request.priority) == ("some/model", None, 4)
    assert (request.extraction.shard_images, request.extraction.max_image_pixels) == (64, 10**6)
    assert (request.scoring.embeddings, request.comparison) == ("last", ComparisonConfig())
    given = study(PLAIN + "scoring: {embeddings: 12}\ncomparison: {confidence: 0.9}\n").request(
        settings, folder=Path("/x")
    )
    assert (given.scoring.embeddings, given.comparison) == ("12", ComparisonConfig(confidence=0.9))
    assert study(PLAIN + "model: ./mine\n").request(settings, folder=Path("/x")).model == "/x/mine"


def test_seeds_multiply_every_configuration(study):
    text = "layers: 1\nsaes: [{kind: topk, k: [8, 16], seed: [0, 1]}]\nseeds: 3\n"
    saes = study(text).request(Settings(), folder=Path("/x")).saes
    assert sorted((sae.variant.k, sae.seed) for sae in saes) == [(k, seed) for k in (8, 16) for seed in range(4)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["no fields"]),
        (PLAIN + "scoring: {controls: [neurons]}\n", ["scoring.controls.0", "'neurons'", "'untrained'"]),
        ("- 1\n- 2\n", ["no fields"]),
        ("layers: [1\nsaes: []\n", ["line 2"]),
        ("layers: 1\n\tsaes: 1\n", ["line 2"]),
        ("layers: 1\nlayers: 2\nsaes: [{}]\n", ["line 2", "layers is given twice"]),
        ("saes: [{kind: topk, k: 8, k: 16}]\nlayers: 1\n", ["line 1", "k is given twice"]),
        ("layers: !!python/object/apply:os.system ['true']\n", ["line 1", "correct the YAML"]),
        (b"layers: \xff\n", ["UTF-8"]),
        ("[" * 3000 + "]" * 3000, ["nested too deeply"]),
        ("layers: 1\n", ["saes is missing"]),
        ("saes: [{}]\n", ["layers is missing"]),
        ("layer: 1\nsaes: [{}]\n", ["layer is no field", "did you mean layers?"]),
        (PLAIN + "seeds: [1]\n", ["seeds: [1] is not valid"]),
        (PLAIN + "seeds: 101\n", ["seeds: 101 is not valid"]),
        (PLAIN + "zzz: 1\n", ["zzz is no field", "choose from name, model"]),
        (PLAIN + "extraction: {token: cls}\n", ["extraction.token", "did you mean tokens?"]),
        (PLAIN + "extraction: {tokens: class}\n", ["extraction.tokens", "'class'"]),
        (PLAIN + "extraction: {views: 2, n_views: 2}\n", ["extraction", "views and n_views are the same setting"]),
        ("layers: 1\nsaes: [{steps: 9, n_steps: 9}]\n", ["saes[0]", "steps and n_steps are the same setting"]),
        ("layers: 1\nsaes: [{l1: 0.1, l1_coefficient: 0.2}]\n", ["saes[0]", "l1 and l1_coefficient are the same"]),
        (PLAIN + "extraction: {seed: 3}\n", ["extraction.seed", "n_views"]),
        (PLAIN + "scoring: {threshold: .nan}\n", ["scoring.threshold"]),
        (PLAIN + "scoring: {treshold: 1}\n", ["did you mean threshold?"]),
        (PLAIN + "scoring: {embeddings: [1]}\n", ["scoring.embeddings"]),
        (PLAIN + "comparison: {confidnce: 0.9}\n", ["comparison.confidnce", "did you mean confidence?"]),
        (PLAIN + "comparison: {confidence: 95}\n", ["comparison.confidence", "95"]),
        (PLAIN + "priority: 10\n", ["priority", "10"]),
        ("layers: []\nsaes: [{}]\n", ["layers", "none is given"]),
        ("layers: ''\nsaes: [{}]\n", ["layers", "none is given"]),
        ("layers: [1, all]\nsaes: [{}]\n", ["layers[1]", "layers: all"]),
        ("layers: [-1]\nsaes: [{}]\n", ["layers[0]", "-1"]),
        ("layers: 5-3\nsaes: [{}]\n", ["layers", "5-3"]),
        ("layers: [yes]\nsaes: [{}]\n", ["layers[0]", "True"]),
        ("layers: {a: 1}\nsaes: [{}]\n", ["layers[0]"]),
        ("layers: 1\nsaes: []\n", ["saes", "list of blocks"]),
        ("layers: 1\nsaes: {kind: topk}\n", ["saes", "list of blocks"]),
        ("layers: 1\nsaes: [topk]\n", ["saes[0]", "no block"]),
        ("layers: 1\nsaes: [{}, {kind: topk, seed: []}]\n", ["saes[1].seed", "empty list"]),
        ("layers: 1\nsaes: [{kind: relu, k: 32}]\n", ["saes[0].k", "does not apply to a relu SAE"]),
        ("layers: 1\nsaes: [{l1_coefficient: 1, kind: topk}]\n", ["saes[0].l1_coefficient", "topk"]),
        ("layers: 1\nsaes: [{width: 8}]\n", ["saes[0].width", "did you mean expansion?"]),
        ("layers: 1\nsaes: [{expansoin: 8}]\n", ["did you mean expansion?"]),
        ("layers: 1\nsaes: [{zzz: 8}]\n", ["saes[0].zzz", "choose from kind, expansion"]),
        ("layers: 1\nsaes: [{kind: spline}]\n", ["saes[0]", "spline"]),
        ("layers: 1\nsaes: [{expansion: [4, 0]}]\n", ["saes[0]", "expansion 0", "1..512"]),
        ("layers: 1\nsaes: [{expansion: [[4]]}]\n", ["saes[0].expansion", "[4]"]),
        ("layers: 1\nsaes: [{seed: true}]\n", ["saes[0].seed", "True"]),
        (f"layers: 1\nsaes: [{{seed: {list(range(40))}, expansion: {list(range(1, 41))}}}]\n", ["1600", str(MAX_SAES)]),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, str | bytes) else None,
)
def test_every_mistake_is_one_line_with_the_file(study, text, words):
    with pytest.raises(UserError) as caught:
        study(text)
    message = " ".join(str(caught.value).split())
    assert "study.yaml: " in message
    assert len(message) < 500
    for word in words:
        assert word in message, message


def test_all_mistakes_are_said_at_once(study):
    with pytest.raises(UserError) as caught:
        study(
            "layer: 3\nlayers: [a, -1]\nfoo: 1\nbar: 2\nseeds: 0\nscoring: {treshold: 1, embeddings: [1]}\n"
            "saes: [{kind: topk, k: 0}, {kind: relu, k: 3, zzz: 1, seed: []}, 5]\n"
        )
    message = str(caught.value)
    for words in (
        "layers[0]: a cannot be read",
        "layers[1]: -1 is no layer",
        "foo is no field of a study: choose from name, model",
        "bar is no field of a study",
        "seeds: 0 is not valid",
        "did you mean threshold?",
        "saes[0]: k 0 is out of range",
        "saes[1].zzz is no setting",
        "saes[1].seed is an empty list",
        "saes[2]: 5 is no block",
    ):
        assert words in message, message
    assert message.count("choose from name, model") == 1
    assert "beyond these" not in message
    with pytest.raises(UserError) as caught:
        study(PLAIN + "intervene: {nodes: [bird.n.01], choose: nearest, n_latents: 0}\n")
    assert "intervene.choose: 'nearest' is not valid" in str(caught.value)
    assert "intervene.n_latents: 0 is not valid" in str(caught.value)


def test_aliases_of_aliases_do_not_swell(study):
    levels = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9))
    with pytest.raises(UserError) as caught:
        study(f"layers: 1\na0: &a0 [x, x]\n{levels}\nsaes: [*a8]\n")
    assert len(str(caught.value)) < 1000


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"absent\.yaml: cannot be read"):
        read_spec(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        read_spec(tmp_path)
    (tmp_path / "large.yaml").write_bytes(b"#" * 2_000_000)
    with pytest.raises(UserError, match="2000000 bytes"):
        read_spec(tmp_path / "large.yaml")


@pytest.mark.parametrize(
    ("text", "layers"), [("8", (8,)), ("0-3,8", (0, 1, 2, 3, 8)), (" 2 - 3, 2,", (2, 3)), ("ALL", "all"), ("", ())]
)
def test_lists_of_layers(text, layers):
    assert parse_layers(text) == layers
