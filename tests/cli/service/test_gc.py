"""hsae-admin gc: what it says, and what it refuses."""

import json

from tests.cli.refusals import assert_one_line
from tests.small import register_small

KEY = "cd" * 32


def test_look_then_delete(admin, service):
    register_small(service, n_classes=2)
    kept = set(service.store.list(""))
    orphans = {
        f"saes/{KEY}/sae-{'0' * 16}.safetensors": 3000,
        f"activations/{KEY}/shard-00000-{'0' * 16}.safetensors": 5,
    }
    for key, n_bytes in orphans.items():
        service.store.put(key, b"x" * n_bytes)
    assert "Nothing to delete" in admin(service, "gc", "--dry-run").output  # they are young
    look = admin(service, "gc", "--dry-run", "--min-age", "0")
    assert "2 objects (3.0 kB) would be deleted" in look.output
    found = json.loads(admin(service, "gc", "--dry-run", "--min-age", "0", "--json").stdout)
    assert found == {
        "dry_run": True,
        "n_objects": 2,
        "n_bytes": 3005,
        "kinds": [
            {"kind": "activations", "n_objects": 1, "n_bytes": 5},
            {"kind": "saes", "n_objects": 1, "n_bytes": 3000},
        ],
    }
    assert_one_line(admin(service, "gc", "--min-age", "0"), "--yes", "--dry-run")
    assert set(service.store.list("")) == kept | set(orphans)
    done = admin(service, "gc", "--yes", "--min-age", "0")
    assert done.exit_code == 0
    assert "2 objects (3.0 kB) deleted" in done.output
    assert set(service.store.list("")) == kept
    assert json.loads(admin(service, "gc", "--yes", "--min-age", "0", "--json").stdout)["n_objects"] == 0


def test_servers_that_are_down(admin, service):
    assert_one_line(admin(service, "gc", "--yes", HSAE_S3_ENDPOINT="127.0.0.1:1"), "S3", "HSAE_S3_ENDPOINT")
    assert_one_line(admin(service, "gc", "--yes", HSAE_DATABASE_URL="postgresql://u:p@127.0.0.1:1/d"), "database")
