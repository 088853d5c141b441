"""hsae-admin doctor: checks every part, and says how to fix a fault."""

import ctypes
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click
from sqlalchemy import text

from hsae.catalog import clear_errors, connect
from hsae.catalog.server import reader_role
from hsae.catalog.server.schema_version import require_current_schema, schema_version
from hsae.cli.framework.connections import Connections, home_option, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.output import print_json
from hsae.cli.service import deep_check
from hsae.cli.service.gpu_findings import gpu_findings
from hsae.errors import HsaeError, UserError
from hsae.pipeline.upkeep.integrity import Lost
from hsae.store.objects import ObjectStore
from hsae.taxonomy.wordnet_check import check_wordnet

_CUDA = "cuda"
_PACKAGES = ("torch", "transformers", "sqlalchemy", "celery", "minio", "nltk", "scipy")


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; a failed check's `detail` says how to fix it."""

    part: str
    ok: bool
    detail: str


@click.command()
@home_option
@json_option
@click.option("--deep", is_flag=True, help="Also read every object that the catalog names; names what is lost.")
@click.option("--repair", is_flag=True, help="With --deep: run the jobs again whose objects are lost.")
@pass_connections
def doctor(connections: Connections, as_json: bool, deep: bool, repair: bool) -> None:
    """Check every part of the service and say how to fix what is broken."""
    if repair and not deep:
        raise click.UsageError("--repair needs --deep, which finds what is lost: hsae-admin doctor --deep --repair")
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
            _print(finding)
        if part == "device" and finding.ok and finding.detail.startswith(_CUDA):
            for found in _gpu():
                findings.append(found)
                if not as_json:
                    _print(found)
    rows: list[dict[str, Any]] = [{"part": f.part, "ok": f.ok, "detail": f.detail} for f in findings]
    if deep:
        finding, lost = _objects(connections, as_json=as_json, repair=repair)
        findings.append(finding)
        rows.append({"part": finding.part, "ok": finding.ok, "detail": finding.detail, "lost": lost})
    if as_json:
        print_json(rows)
    bad = [finding.part for finding in findings if not finding.ok]
    if bad:
        raise UserError(f"{len(bad)} of {len(findings)} checks failed: {', '.join(bad)}")


def _objects(connections: Connections, *, as_json: bool, repair: bool) -> tuple[Finding, list[dict[str, Any]]]:
    """The check of --deep, printed at once for people, and the lost objects for programs."""
    lost: list[Lost] = []
    again: list[int] = []

    def check(connections: Connections) -> str:
        n_objects, found = deep_check.lost_objects(connections, quiet=as_json)
        lost.extend(found)
        if not lost:
            return f"read {n_objects}, all as they were stored"
        if repair:
            again.extend(deep_check.repair(connections, lost))
        raise UserError(f"{len(lost)} of {n_objects} are missing or damaged")

    finding = _examine("objects", check, connections)
    if not as_json:
        _print(finding)
        deep_check.print_lost(lost, again)
    return finding, deep_check.as_rows(lost, again)


def _print(finding: Finding) -> None:
    click.echo(f"{'ok ' if finding.ok else 'BAD'}  {finding.part:<13} {finding.detail}")


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
    return f"hsae {version('hsae')}, Python {platform.python_version()}, {', '.join(found)}"


def _settings(connections: Connections) -> str:
    settings = connections.settings
    return f"home {settings.home}, bucket {settings.s3_bucket}, default model {settings.model}"


def _database(connections: Connections) -> str:
    engine = connect(connections.settings)
    with clear_errors(), engine.connect() as connection:
        number = connection.execute(text("SHOW server_version")).scalar_one()
    return f"Postgres {number} at {engine.url.host}:{engine.url.port}"


def _migrations(connections: Connections) -> str:
    engine = connect(connections.settings)
    require_current_schema(engine)
    return f"current ({schema_version(engine).head}); {reader_role.status(engine)}"


def _broker(connections: Connections) -> str:
    connections.notifier.check()
    return "answers"


def _object_store(connections: Connections) -> str:
    store = ObjectStore.from_settings(connections.settings)
    store.ensure_bucket()
    store.probe()
    return f"wrote, read back and deleted an object at {connections.settings.s3_endpoint}"


def _worker(connections: Connections) -> str:
    names = connections.notifier.workers()
    if not names:
        raise UserError("no worker answers: start one with `hsae-admin up` or `hsae-admin worker`")
    return ", ".join(names)


def _device(connections: Connections) -> str:
    wanted = connections.settings.device
    if wanted == "cpu" or (wanted == "auto" and not _cuda_is_possible()):
        return f"cpu, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"
    # torch takes seconds to load: only it knows whether it can use the GPU.
    from hsae.pipeline.execution.device import device_line

    return device_line(connections.settings)


def _gpu() -> Iterator[Finding]:
    """What there is to say of the GPU that workers would use; torch is loaded by now."""
    # torch takes seconds, and a machine without a GPU needs none of it.
    from hsae.pipeline.execution.gpu_facts import gpu_facts

    try:
        facts = gpu_facts()
    except RuntimeError as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        yield Finding("GPU", False, f"it does not work ({first}): look at `nvidia-smi` and `dmesg`")
        return
    for found in gpu_findings(facts):
        yield Finding(*found)


def _cuda_is_possible() -> bool:
    """Whether it is worth asking torch: its build may be for CPUs alone, or the machine has no NVIDIA driver."""
    build = version("torch").partition("+")[2]
    if build == "cpu":
        return False
    if build.startswith("rocm"):  # torch calls AMD's GPUs cuda, too
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _wordnet(connections: Connections) -> str:
    return check_wordnet(connections.settings.wordnet)
