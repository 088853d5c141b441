"""hsae-admin doctor: is every part there, and if not, what mends it."""

import platform
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import click

from hsae import __version__
from hsae.cli.connections import Connections, home_option, pass_connections
from hsae.cli.output import json_option, print_json
from hsae.errors import HsaeError, UserError

_PACKAGES = ("torch", "transformers", "sqlalchemy", "celery", "minio", "nltk", "scipy")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; a failed check's `detail` says how to mend it."""

    part: str
    ok: bool
    detail: str


@click.command()
@home_option
@json_option
@pass_connections
def doctor(connections: Connections, as_json: bool) -> None:
    """Check every part of the service and say how to mend what is broken."""
    checks: dict[str, Callable[[Connections], str]] = {
        "versions": _versions,
        "settings": _settings,
        "database": _database,
        "migrations": _migrations,
        "broker": _broker,
        "object store": _object_store,
        "worker": _worker,
        "device": _device,
        "WordNet": _wordnet,
    }
    findings = []
    for part, check in checks.items():
        finding = _examine(part, check, connections)
        findings.append(finding)
        if not as_json:
            click.echo(f"{'ok ' if finding.ok else 'BAD'}  {finding.part:<13} {finding.detail}")
    if as_json:
        print_json([{"part": f.part, "ok": f.ok, "detail": f.detail} for f in findings])
    bad = [finding.part for finding in findings if not finding.ok]
    if bad:
        raise UserError(f"{len(bad)} of {len(findings)} checks failed: {', '.join(bad)}")


def _examine(part: str, check: Callable[[Connections], str], connections: Connections) -> Finding:
    try:
        return Finding(part, True, check(connections))
    except HsaeError as error:
        return Finding(part, False, " ".join(str(error).split()))


def _versions(_: Connections) -> str:
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError as error:
            raise UserError(
                f"the package {name} is not installed: in hsae's checkout run `make install`, or `pip install .`"
            ) from error
    return f"hsae {__version__}, Python {platform.python_version()}, {', '.join(found)}"


def _settings(connections: Connections) -> str:
    settings = connections.settings
    return f"home {settings.home}, bucket {settings.s3_bucket}, default model {settings.model}"


def _database(connections: Connections) -> str:
    from sqlalchemy import text

    from hsae.catalog import clear_errors, connect

    engine = connect(connections.settings)
    with clear_errors(), engine.connect() as connection:
        number = connection.execute(text("SHOW server_version")).scalar_one()
    return f"Postgres {number} at {engine.url.host}:{engine.url.port}"


def _migrations(connections: Connections) -> str:
    from hsae.catalog import connect, reader
    from hsae.catalog.schema_version import require_current_schema, schema_version

    engine = connect(connections.settings)
    require_current_schema(engine)
    return f"current ({schema_version(engine).head}); {reader.status(engine)}"


def _broker(connections: Connections) -> str:
    connections.doorbell.check()
    return "answers"


def _object_store(connections: Connections) -> str:
    from hsae.store.objects import ObjectStore

    store = ObjectStore.from_settings(connections.settings)
    store.ensure_bucket()
    content = secrets.token_bytes(1024)
    written = store.put(f"doctor/{secrets.token_hex(8)}", content)
    try:
        if store.get(written.key, sha256=written.sha256) != content:
            raise UserError(f"object {written.key} reads back differently: check the S3 server's disk")
    finally:
        store.delete(written.key)
    return f"wrote, read back and deleted an object at {connections.settings.s3_endpoint}"


def _worker(connections: Connections) -> str:
    names = connections.doorbell.workers()
    if not names:
        raise UserError("no worker answers: start one with `hsae-admin up` or `hsae-admin worker`")
    return ", ".join(names)


def _device(connections: Connections) -> str:
    import torch

    from hsae.pipeline.device import pick_device

    device = pick_device(connections.settings)
    if device.type == "cuda":
        return f"cuda: {torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return f"cpu, {torch.get_num_threads()} threads"


def _wordnet(connections: Connections) -> str:
    from hsae.taxonomy import load_taxonomy

    taxonomy = load_taxonomy(wordnet=connections.settings.wordnet)
    return f"{taxonomy.name}: dog.n.01 is {taxonomy.resolve('dog.n.01').id}"
