"""The compose files as PyYAML reads them, and as `docker compose config` merges them."""

import json
import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
MAIN = "docker-compose.yml"
CPU = "deploy/compose.cpu.yml"
SEAWEEDFS = "deploy/compose.seaweedfs.yml"
PUBLISH = "deploy/compose.publish.yml"
SECOND_MACHINE = "deploy/compose.second-machine.yml"
ALL = (MAIN, CPU, SEAWEEDFS, PUBLISH, SECOND_MACHINE)
OURS = ("migrate", "worker-gpu", "worker-cpu", "flower", "explorer", "admin", "metrics")
ONE_SHOT = ("migrate", "admin")

_VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?:(:?[-?+])([^}]*))?\}")


class _Loader(yaml.SafeLoader):
    """Compose's own tags say how a value replaces another file's; here the value itself is wanted."""


def _value(loader: _Loader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_yaml_null(node)  # type: ignore[arg-type]


_Loader.add_multi_constructor("!", _value)


@cache
def read(name: str) -> dict[str, Any]:
    """One compose file, variables as they are written."""
    content = yaml.load((ROOT / name).read_text(), Loader=_Loader)  # noqa: S506 -- a SafeLoader
    assert isinstance(content, dict)
    return content


def services(*names: str) -> list[tuple[str, str, dict[str, Any]]]:
    """(file, service, definition) of every service of the files."""
    return [
        (name, service, definition or {})
        for name in names or ALL
        for service, definition in read(name)["services"].items()
    ]


def with_defaults(text: str) -> str:
    """The text after Compose filled in its variables' defaults; what has none stays."""
    return _VARIABLE.sub(lambda match: match[3] if match[2] in {":-", "-"} else match[0], text)


def variables(name: str) -> list[tuple[str, str | None, str]]:
    """(variable, operator, default or message) of every ${VARIABLE...} of a file; comments do not count."""
    lines = [
        line.split(" # ")[0] for line in (ROOT / name).read_text().splitlines() if not line.lstrip().startswith("#")
    ]
    return [(match[1], match[2], match[3] or "") for match in _VARIABLE.finditer("\n".join(lines))]


def compose_config(env_file: Path, *files: str, **variables: str) -> dict[str, Any]:
    """What `docker compose config` makes of the files together."""
    options = [part for file in files for part in ("--file", str(ROOT / file))]
    done = subprocess.run(
        ["docker", "compose", "--project-directory", ROOT, "--env-file", env_file, *options, "--profile", "*", "config",
         "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
        env={**{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}, **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    merged: dict[str, Any] = json.loads(done.stdout)
    return merged
