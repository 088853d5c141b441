"""Which keys are hsae's own, so that garbage collection leaves all others alone, and what a key says."""

import pytest

from hsae.store import keys

KEY, SHA256 = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("folder", "object_key"),
    [
        (keys.DATASETS, keys.listing_key(KEY, SHA256)),
        (keys.TAXONOMIES, keys.taxonomy_key(KEY)),
        (keys.IMPORTS, keys.imported_key(KEY, SHA256)),
        (keys.LOGS, keys.job_log_key(7, 1)),
        (keys.DOCTOR, keys.doctor_key("c" * 16)),
        (keys.ACTIVATIONS, keys.shard_key(KEY, 3, SHA256)),
        (keys.SAES, keys.checkpoint_key(KEY, 1, 2)),
        (keys.NAMES, keys.directions_key(KEY, SHA256)),
    ],
)
def test_what_a_key_function_gives_is_of_hsae(folder, object_key):
    assert keys.is_of_hsae(folder, object_key)
    assert not keys.is_of_hsae(folder, f"elsewhere/{object_key}")


@pytest.mark.parametrize(
    ("folder", "object_key"),
    [
        (keys.DATASETS, f"datasets/{KEY}/listing.parquet"),
        (keys.TAXONOMIES, f"taxonomies/{KEY}.json.bak"),
        (keys.LOGS, "logs/mine/1.jsonl"),
        (keys.SAES, "saes/mine/sae.safetensors"),
        (keys.SAES, f"saes/{KEY}"),
    ],
)
def test_other_names_are_somebody_elses(folder, object_key):
    assert not keys.is_of_hsae(folder, object_key)


def test_a_key_says_whose_object_it_is():
    assert keys.listing_of(keys.listing_key(KEY, SHA256)) == (KEY, SHA256[:16])
    assert keys.taxonomy_of(keys.taxonomy_key(KEY)) == KEY
    assert keys.artifact_of(keys.weights_key(KEY, SHA256)) == (keys.SAES, KEY)
