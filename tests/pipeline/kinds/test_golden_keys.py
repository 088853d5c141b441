"""Keys are addresses of what users have stored: the same request has the same key in every version.

A key that changes here makes everything that exists under the old one useless. Where other bytes are meant, raise the
format beside the request in `hsae.pipeline.kinds` and say so in docs/storage-format.md; a new field is left out at its
default.
"""

import pytest

from hsae.backbones.spec import BackboneSpec
from hsae.extraction.config import ExtractionConfig
from hsae.hierarchy.config import ComparisonConfig, ProbeConfig, ScoringConfig
from hsae.pipeline.inputs.dataset_ref import DatasetRef
from hsae.pipeline.kinds.analyze import AnalyzeRequest
from hsae.pipeline.kinds.compare import CompareRequest
from hsae.pipeline.kinds.extract import ExtractRequest
from hsae.pipeline.kinds.imports.import_sae import ImportRequest
from hsae.pipeline.kinds.map import MapRequest
from hsae.pipeline.kinds.probe import ProbeRequest
from hsae.pipeline.kinds.scored_apart import ScoredApart
from hsae.pipeline.kinds.spread.part import PartRequest
from hsae.pipeline.kinds.train import TrainRequest
from hsae.pipeline.planning.requests import study_key
from hsae.relevancy.config import MapSettings
from hsae.sae.config import SaeConfig
from hsae.sae.origin import SaeOrigin
from hsae.split_config import ScoreSplit, SplitConfig

_MODEL = BackboneSpec(
    name="facebook/dinov2-base",
    revision="f9e44c814b77203eaa57a6bdbbd535f21ede1415",
    model_type="dinov2",
    n_layers=12,
    d_model=768,
    n_prefix_tokens=1,
    has_class_token=True,
    n_patches=256,
    preprocessing={"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 256}, "do_resize": True},
)
_DATASET = DatasetRef(
    id=7, name="train", root="/images", fingerprint="a" * 64, listing_sha256="b" * 64, taxonomy_key="c" * 64
)
_ACTIVATIONS, _SAE = "d" * 64, "e" * 64
_NOT_RESAMPLED = {"n_replicates": 0, "n_tree_shuffles": 0}  # as before there were such settings


@pytest.mark.parametrize(
    ("extraction", "layer", "key"),
    [
        (ExtractionConfig(), 0, "ea5b6dcbefb1aca3cc7c7181edd4709bfa3eeb0d65470e0ff7beff516eaea75e"),
        (ExtractionConfig(), 8, "f1f7a0e9c7fc9a70f6bb4ad6fa790b47fb08103e9282bedaf9df349db13e4e6e"),
        (
            ExtractionConfig(
                tokens="patches",
                dtype="bfloat16",
                n_views=4,
                shard_images=64,
                batch_size=8,
                max_image_pixels=10**6,
                seed=3,
            ),
            8,
            "023505898ee3976e494a592bbb3614df353137d57fa0c4982e5f3f1dfa359643",
        ),
        (ExtractionConfig(tokens="mean"), 11, "8d0b93e6e74f0ac36b02278a17ea4d1f5a707065e3f06a803a3c7ed1f153ebd7"),
        (ExtractionConfig(decode="scaled"), 8, "0da36a182846022e5462238b3cbfe23995927649a0ccee9701c915dabfd092ec"),
        (ExtractionConfig(hook="mlp"), 8, "523494103e1f33009c43c4dffb5e05b03d54ab2b824b8b7bffa05d8d9eb39058"),
        (
            ExtractionConfig(tokens="patches", patches_per_image=16, seed=3),
            8,
            "bc48f0cfcce8fd5030f989a7ffa50e150db616164f69d338acd5a6b4123bdf0c",
        ),
        (
            ExtractionConfig(hook="encoder.layer.*.mlp.fc1", tokens="registers"),
            8,
            "a95c68b2b53f67d622cf35ba9a3d2594a69cbf730b040eaad097434b088218b4",
        ),
    ],
)
def test_activation_sets(extraction, layer, key):
    request = ExtractRequest(model=_MODEL, dataset=_DATASET, layers=(layer,), extraction=extraction)
    assert request.activation_key(layer) == key


def test_an_activation_set_is_known_by_content_and_not_by_where_it_lies():
    here = ExtractRequest(model=_MODEL, dataset=_DATASET, layers=(8,), extraction=ExtractionConfig())
    moved = here.model_copy(
        update={
            "model": _MODEL.model_copy(update={"name": "/models/dinov2"}),
            "dataset": _DATASET.model_copy(update={"id": 9, "name": "other", "root": "/elsewhere"}),
            "layers": (0, 8),
        }
    )
    assert moved.activation_key(8) == here.activation_key(8)
    assert moved.key != here.key


def test_an_extraction_and_a_part_of_it():
    request = ExtractRequest(model=_MODEL, dataset=_DATASET, layers=(0, 8), extraction=ExtractionConfig())
    assert request.key == "ac9c0f05d5435676aed81b07e70d328ef244135f97f5283fffbe1331c0ba31e6"
    assert PartRequest.of(request, 4, 8).key == "382cb88bde27e027a47cd21335a4badb908ea0ac5990b9be90b4e0e47f9f1b65"


@pytest.mark.parametrize(
    ("sae", "key"),
    [
        (SaeConfig(), "8a2cf1c727916fa9be30e451306f28dca221a5aabd77f9ec6ef29cd53045112b"),
        (SaeConfig(kind="topk"), "b261ffbfb40671b970c1947be8203c5a47bcae6949537314f5c802fab86edc47"),
        (
            SaeConfig(kind="topk", expansion=32, k=64, k_aux=128, seed=5, n_steps=2000, batch_size=256),
            "dcbca19f9522cd3ab23157f0031b82eb4de4b2694af0dd0744c0380cddfecf88",
        ),
        (
            SaeConfig(l1_coefficient=0.1, learning_rate=3e-4, holdout_share=0.2, dead_after_steps=100),
            "7b1feeb51f67929f2b030b4537274f3817fb82550047894c8e74bbfa57a0ab2f",
        ),
        (SaeConfig(target_l0=24), "9cc8aacced5762471485057c71b4be7ac29836611f79bd628639f9a564aea33b"),
        (SaeConfig(kind="frozen"), "026be53e2432431dc8cdd6af0f21e4c55857b06bb03b31cf03a59ebccbcc51df"),
        (SaeConfig(kind="soft_frozen", k=16), "8b6e85b1f05f3aa4be4bf0a4f95963e6281142cb358d00d2c82a5d19ae7b1cea"),
        (SaeConfig(kind="batch_topk"), "b5d4898bc2a24a5476ad142233a18772cd5b6f39aaeb388eb983f5c5601d8b3c"),
        (
            SaeConfig(kind="matryoshka", groups="1/4,1"),
            "ccee643adc0a7a76ff47176169f4f258ffaf731b34d9bace9a3f86580cf561ab",
        ),
        (
            SaeConfig(kind="matryoshka_topk", weighting="reverse"),
            "3b68f31276341f26ba64b471949e16e223cda810cee83044f234722e532a44d9",
        ),
        (SaeConfig(kind="matching_pursuit", k=16), "1d22f45618611adc1f384c4b95272d2177091b899e5111feaefd0e7c32bf4c36"),
        (SaeConfig(kind="jumprelu"), "e0bd94fc63839c691c11d4d96d7ea8830703dd5fd753a69db4ea7350d8fd8a9b"),
        (
            SaeConfig(kind="jumprelu", target_l0=24, penalty="tanh"),
            "fa15f960f6e2aa91aabd9c5caad17d27cf730217a2b62d2a2478485312d17ce5",
        ),
        (SaeConfig(kind="gated"), "99382efb396826f9519c153320496d9439017a339baf07de4652cfbdbfb13501"),
        (
            SaeConfig(kind="archetypal", n_points=512),
            "7ecd9f47d09e26eb7be6fb8410edbf9bee70b33068c38db9d909e1247efdb72e",
        ),
        (
            SaeConfig(kind="topk", dead_latents="resample"),
            "81cd85db4d98443421e2910cb84796c4e071341e42b5ecfbf3259995fbaa8abe",
        ),
    ],
)
def test_saes(sae, key):
    assert TrainRequest(activation_key=_ACTIVATIONS, sae=sae).key == key
    assert TrainRequest(activation_key=_ACTIVATIONS, sae=sae, split=None).key == key


@pytest.mark.parametrize(
    ("split", "sae", "analysis"),
    [
        (
            SplitConfig(),
            "d19552a59e5c60cac4359648f4da5da127b866764f5c98c38f64d8fbc6215420",
            "c4fb2267b9b7e1eee6d9fb8d370e95e85a8328659d918d7df6d39411c195516f",
        ),
        (
            SplitConfig(train=0.6, select=0.2, score=0.2, seed=3),
            "178d78f1f7eeb7aa7813a0e5a836363751e3ddc9b925e1e3b0f67425817c8f62",
            "25c227fae0f2cd30bc01e69ee1c239d6c8328353df68f0032b5ae1d943eb49eb",
        ),
    ],
)
def test_splits(split, sae, analysis):
    assert TrainRequest(activation_key=_ACTIVATIONS, sae=SaeConfig(), split=split).key == sae
    request = AnalyzeRequest(
        sae_key=_SAE, activation_key=_ACTIVATIONS, dataset=_DATASET, scoring=ScoringConfig(), split=split
    )
    assert request.key == analysis


@pytest.mark.parametrize(
    ("scoring", "embeddings", "key"),
    [
        (ScoringConfig(), None, "a8acb3b2fd639b57740769511d8be183d9c81fd9ad2ec9b43df51618a2c0a759"),
        (ScoringConfig(**_NOT_RESAMPLED), None, "f561956229f1931bbeb51b6c7eb1b24d4f020018616ff2fcc4925fbbc4f71585"),
        (
            ScoringConfig(**_NOT_RESAMPLED, embeddings="own"),
            None,
            "f561956229f1931bbeb51b6c7eb1b24d4f020018616ff2fcc4925fbbc4f71585",
        ),
        (ScoringConfig(**_NOT_RESAMPLED), "f" * 64, "27535fe1085e18e5de272a910edb702aea8c44b6c96dd508304bf07d030bebef"),
        (
            ScoringConfig(
                **_NOT_RESAMPLED, threshold=0.5, association="mass", seed=2, n_shuffles=5, controls=("random", "neuron")
            ),
            None,
            "5fc40bf543bd64b6a49293916165c1206b76cd364b65e571097c2219003c5575",
        ),
        (
            ScoringConfig(**_NOT_RESAMPLED, controls=()),
            None,
            "d6267008ea0ea3385aaf28f87f8e6b448670e48696d38d05dca48d07b9082a49",
        ),
    ],
)
def test_analyses(scoring, embeddings, key):
    request = AnalyzeRequest(
        sae_key=_SAE, activation_key=_ACTIVATIONS, dataset=_DATASET, scoring=scoring, embedding_key=embeddings
    )
    assert request.key == key


@pytest.mark.parametrize(
    ("analyses", "comparison", "key"),
    [
        (("1" * 64, "2" * 64), ComparisonConfig(), "3190c196189cfa93b92bc076e4f6cc71f7e414e43d19218feef88d5738c37dde"),
        (
            ("1" * 64,),
            ComparisonConfig(confidence=0.9),
            "94c801833264c2a67ab605d6d22ca49fb7f07eeb99602bb3e8c0938f854ede02",
        ),
    ],
)
def test_comparisons(analyses, comparison, key):
    assert CompareRequest(analyses=analyses, dataset=_DATASET, comparison=comparison).key == key


@pytest.mark.parametrize(
    ("probe", "split", "key"),
    [
        (ProbeConfig(), SplitConfig(), "c0e66a76e92b9dc1a307f81a616d8d9f88dfd0c7ad173961116725a9aa5fe416"),
        (ProbeConfig(), None, "526e6e796bd31046c587733e777640b9e2fb8635a450eb0a5451d0533b06788a"),
        (
            ProbeConfig(seed=2, n_neighbours=5, n_path_shuffles=10, logistic=True),
            None,
            "0512866160804edd9c861a1c515495c18b27e293bc735e26cdecaac5a59846c0",
        ),
    ],
)
def test_class_probes(probe, split, key):
    assert ProbeRequest(activation_key=_ACTIVATIONS, dataset=_DATASET, probe=probe, split=split).key == key


def test_another_data_set_that_is_scored():
    apart = ScoredApart(train_dataset=_DATASET, activation_key="8" * 64, split=ScoreSplit())
    analysis = AnalyzeRequest(
        sae_key=_SAE, activation_key=_ACTIVATIONS, dataset=_DATASET, scoring=ScoringConfig(), apart=apart
    )
    assert analysis.key == "f8e7f30cae5b11d3e56197af1c629cb3ba39a25fcac58ce4a46cba2eecf1962d"
    probe = ProbeRequest(activation_key=_ACTIVATIONS, dataset=_DATASET, probe=ProbeConfig(), apart=apart)
    assert probe.key == "d0cf06657b0c4b3910c2c56506278cac0d1dc09e3f6967f860effe76e2b5a5a9"
    key = study_key("9" * 64, 7, score_dataset_id=8)
    assert key == "880e7da54e0cac1294be412aee8cf03b96e044cc6bea806f961fd760b65a6abb"


@pytest.mark.parametrize(
    ("maps", "key"),
    [
        (MapSettings(latents=32), "ae9f20eb719de84a97509044f0bf8175c2ccb440c311a198a925b15880296e6c"),
        (
            MapSettings(latents=8, images=4, methods=("random", "chefer"), batch_size=2, seed=3),
            "2c9e8158d191acf7ae724f6c5cfe5c486742826e12a6e740966db7831e35077e",
        ),
    ],
)
def test_maps(maps, key):
    request = MapRequest(
        analysis_key="7" * 64,
        sae_key=_SAE,
        model=_MODEL,
        layer=8,
        dataset=_DATASET,
        extraction=ExtractionConfig(),
        maps=maps,
    )
    assert request.key == key
    in_one_part = ExtractionConfig(part_images=maps.batch_size)
    assert request.model_copy(update={"extraction": in_one_part}).key == key
    other = request.model_copy(update={"extraction": ExtractionConfig(precision="bfloat16", part_images=1)})
    assert other.key != key
    assert {"precision": "bfloat16", "part_images": 1}.items() <= other.config.items()


def test_a_study():
    assert study_key("9" * 64, 7) == "ad66b5df8b8a6281096cb2cff5ef1c2cb8334acb179b1a6c2a2150b559811227"
    assert (
        study_key("9" * 64, 7, ProbeConfig(logistic=True))
        == "ec345f800d093b440f36eef687bcf7c15b22f8973fc1d10cb27913e000c5d39e"
    )


def test_imported_saes():
    origin = SaeOrigin(name="clip", format="saelens", key="f" * 64, d_model=768, n_latents=1000)
    request = ImportRequest(activation_key=_ACTIVATIONS, sae=SaeConfig(kind="topk", k=16, imported=origin))
    assert request.key == "89f002f04581e8874fed6677c870a384075edb622f66a4b8d121aba29fc36e3d"
    assert (
        request.model_copy(update={"split": SplitConfig()}).key
        == "63483b81d2e1d95d3e04ee624b6eb23a75cc17dcaefcfc5cca5fdc17a2ea45b9"
    )
    assert "hook" not in request.sae.model_dump()["imported"], "as configs were stored before it was there"
    renamed = request.sae.model_copy(update={"imported": origin.model_copy(update={"name": "another"})})
    assert request.model_copy(update={"sae": renamed}).key == request.key
