"""What decides whether two artifacts are the same."""

from typing import Any

import pytest
from tests.pipeline.in_process import TINY_SAE

from hsae.backbones.inspection import inspect_backbone
from hsae.demo import backbone_folder
from hsae.extraction.config import ExtractionConfig
from hsae.hierarchy.config import ProbeConfig, ScoringConfig
from hsae.pipeline.inputs.dataset_ref import DatasetRef
from hsae.pipeline.kinds.analyze import AnalyzeRequest
from hsae.pipeline.kinds.extract import ExtractRequest
from hsae.pipeline.kinds.probe import ProbeRequest
from hsae.pipeline.kinds.scored_apart import ScoredApart
from hsae.pipeline.kinds.train import TrainRequest
from hsae.sae.config import SaeConfig
from hsae.sae.variants import DEFAULT_KIND, VARIANTS, own_settings
from hsae.sae.variants.variant import OwnSetting
from hsae.split_config import NamedGroups, ScoreSplit, SplitConfig

DATASET = DatasetRef(id=1, name="a", root="/a", fingerprint="f" * 64, listing_sha256="a" * 64, taxonomy_key="b" * 64)


@pytest.fixture(scope="module")
def spec():
    return inspect_backbone(str(backbone_folder()))


def _keys(spec, *, extraction=None, sae=TINY_SAE, scoring=None, dataset=DATASET, layer=3, split=None):
    request = ExtractRequest(model=spec, dataset=dataset, layers=(layer,), extraction=extraction or ExtractionConfig())
    activations = request.activation_key(layer)
    trained = TrainRequest(activation_key=activations, sae=sae, split=split)
    analysis = AnalyzeRequest(
        sae_key=trained.key, activation_key=activations, dataset=dataset, scoring=scoring or ScoringConfig(),
        split=split,
    )  # fmt: skip
    return activations, request.key, trained.key, analysis.key


OTHER_EXTRACTION = {
    "tokens": "mean",
    "dtype": "bfloat16",
    "n_views": 2,
    "shard_images": 7,
    "max_image_pixels": 10**6,
    "batch_size": 5,
    "seed": 3,
    "precision": "tf32",
    "part_images": 4,
    "hook": "mlp",
    "patches_per_image": 4,
    "decode": "scaled",
}
OTHER_SCORING = {
    "threshold": 0.25, "association": "rate", "seed": 3, "n_shuffles": 5, "controls": ("pca",), "n_random": 2,
    "n_replicates": 7, "n_tree_shuffles": 9,
}  # fmt: skip
OTHER_SAE = {
    "kind": "topk", "expansion": 3, "k": 5, "l1_coefficient": 0.2, "l1_warmup_share": 0.3, "learning_rate": 2e-3,
    "lr_warmup_share": 0.1, "lr_decay_share": 0.1, "n_steps": 31, "batch_size": 6, "aux_coefficient": 0.5, "k_aux": 7,
    "dead_after_steps": 9, "holdout_share": 0.2, "seed": 3,
    "target_l0": 20.0, "min_cosine": 0.5, "l0_coefficient": 0.1, "l0_warmup_share": 0.3, "penalty": "tanh",
    "bandwidth": 0.1, "n_points": 30, "delta": 0.5, "dead_latents": "resample", "groups": "1/2,1", "ks": "4,8",
    "weighting": "reverse", "rows": "stream", "window_shards": 8, "precision": "bfloat16",
    "part_rows": 5,
}  # fmt: skip
KIND_WITH = {
    name: next(kind for kind, variant in VARIANTS.items() if name in variant.settings())
    for name in own_settings().keys() - VARIANTS[DEFAULT_KIND].settings().keys()
}


def another(setting: OwnSetting) -> Any:
    """A value that is not the default; a setting that is a text needs a line in `OTHER_SAE`."""
    if setting.choices:
        return next(choice for choice in setting.choices if choice != setting.default)
    if setting.type is float:
        return setting.default / 2 if setting.default else 0.5
    return (setting.default or 0) + 1


OTHER_SAE = {name: another(own) for name, own in own_settings().items() if name not in OTHER_SAE} | OTHER_SAE


@pytest.mark.parametrize(
    ("config", "others"),
    [(ExtractionConfig, OTHER_EXTRACTION), (ScoringConfig, OTHER_SCORING), (SaeConfig, OTHER_SAE)],
    ids=["extraction", "scoring", "sae"],
)
def test_every_field_is_part_of_the_key(spec, config, others):
    # A new field needs a line above. Of the embeddings the key that they are resolved to counts.
    defaults = SaeConfig.defaults() if config is SaeConfig else dict(config())
    assert set(others) | {"embeddings"} == set(defaults) | {"embeddings"}
    name = {ExtractionConfig: "extraction", ScoringConfig: "scoring", SaeConfig: "sae"}[config]
    first_changed = {"extraction": 0, "sae": 2, "scoring": 3}[name]
    plain = _keys(spec, **{name: config()})
    seen = {plain}
    for field, value in others.items():
        assert value != defaults[field]
        base = {"kind": KIND_WITH[field]} if field in KIND_WITH else {}  # a setting of other kinds than the default
        base |= {"rows": "stream"} if field == "window_shards" else {}
        if base:
            assert _keys(spec, **{name: config(**{**base, field: value})}) != _keys(spec, **{name: config(**base)}), (
                field
            )
        keys = _keys(spec, **{name: config(**{**base, field: value})})
        assert keys not in seen, field
        seen.add(keys)
        assert keys[:first_changed] == plain[:first_changed]
        assert not set(keys[first_changed:]) & set(plain[first_changed:]), field


def test_every_field_of_a_split_is_part_of_the_keys_of_saes_and_analyses(spec):
    splits = [
        None,
        SplitConfig(),
        SplitConfig(seed=1),
        SplitConfig(train=0.6, select=0.15),
        SplitConfig(train=0.6, score=0.15),
    ]
    keys = [_keys(spec, split=split) for split in splits]
    assert len({key[:2] for key in keys}) == 1, "activations are extracted once for all splits"
    assert len({key for of_split in keys for key in of_split[2:]}) == 2 * len(splits)


def test_what_the_model_and_the_data_are_is_part_of_the_key_and_their_place_is_not(spec):
    plain = _keys(spec)
    moved = spec.model_copy(update={"name": "/elsewhere"})
    renamed = DATASET.model_copy(update={"id": 9, "name": "b", "root": "/b", "listing_sha256": "c" * 64})
    assert _keys(moved, dataset=renamed) == plain
    for other in (
        _keys(spec.model_copy(update={"revision": "another"})),
        _keys(spec.model_copy(update={"preprocessing": spec.preprocessing | {"resample": 2}})),
        _keys(spec, dataset=DATASET.model_copy(update={"fingerprint": "0" * 64})),
        _keys(spec, layer=2),
    ):
        assert not set(other) & set(plain)
    other_tree = _keys(spec, dataset=DATASET.model_copy(update={"taxonomy_key": "0" * 64}))
    assert other_tree[:3] == plain[:3]  # activations and SAEs do not depend on the taxonomy
    assert other_tree[3] != plain[3]


def test_equal_numbers_have_equal_keys(spec):
    assert _keys(spec, scoring=ScoringConfig(threshold=1)) == _keys(spec, scoring=ScoringConfig(threshold=1.0))
    same = [ScoringConfig(controls=given) for given in (("pca", "neuron"), ("neuron", "pca", "neuron"))]
    assert _keys(spec, scoring=same[0]) == _keys(spec, scoring=same[1])
    assert _keys(spec, scoring=same[0]) == _keys(spec, scoring=ScoringConfig(controls=("neuron", "pca"), n_random=9))
    assert _keys(spec, sae=SaeConfig(aux_coefficient=1)) == _keys(spec, sae=SaeConfig(aux_coefficient=1.0))


def test_every_setting_of_the_probes_and_what_they_probe_is_part_of_the_key():
    def key(dataset=DATASET, activations="a" * 64, split=None, **settings):
        return ProbeRequest(activation_key=activations, dataset=dataset, probe=ProbeConfig(**settings), split=split).key

    others = {"seed": 1, "n_neighbours": 5, "n_path_shuffles": 3, "logistic": True}
    assert set(others) == set(ProbeConfig.model_fields)
    moved = DATASET.model_copy(update={"id": 9, "name": "b", "root": "/b", "listing_sha256": "c" * 64})
    assert key(moved) == key()
    keys = [
        key(), *(key(**{name: value}) for name, value in others.items()), key(split=SplitConfig()),
        key(split=SplitConfig(seed=1)), key(activations="b" * 64),
        key(DATASET.model_copy(update={"fingerprint": "0" * 64})),
        key(DATASET.model_copy(update={"taxonomy_key": "0" * 64})),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)


def test_what_is_scored_apart_and_how_it_is_divided_is_part_of_the_keys_and_its_name_is_not():
    def keys(activations="b" * 64, dataset=DATASET, trains=DATASET, **split):
        apart = ScoredApart(train_dataset=trains, activation_key=activations, split=ScoreSplit(**split))
        analysis = AnalyzeRequest(
            sae_key="e" * 64, activation_key="a" * 64, dataset=dataset, scoring=ScoringConfig(), apart=apart
        )
        probe = ProbeRequest(activation_key="a" * 64, dataset=dataset, probe=ProbeConfig(), apart=apart)
        return analysis.key, probe.key

    moved = DATASET.model_copy(update={"id": 9, "name": "b", "root": "/b", "listing_sha256": "c" * 64})
    assert keys(dataset=moved, trains=moved) == keys()
    found = [
        keys(), keys(activations="c" * 64), keys(seed=1), keys(select=0.25, score=0.75),
        keys(groups=NamedGroups(select=("x",), score=("y",))), keys(dataset=DATASET.model_copy(update={
            "taxonomy_key": "0" * 64})),
    ]  # fmt: skip
    in_sample = AnalyzeRequest(sae_key="e" * 64, activation_key="a" * 64, dataset=DATASET, scoring=ScoringConfig())
    assert len({key for pair in found for key in pair} | {in_sample.key}) == 2 * len(found) + 1
