"""What must hold of the image's recipe."""

import re
import subprocess

import pytest
from tests.deploy import compose_files as compose

TEXT = re.sub(r"\\\n", " ", (compose.ROOT / "deploy/Dockerfile").read_text())
INSTRUCTIONS = [line.strip() for line in TEXT.splitlines() if line.strip() and not line.startswith("#")]


def _stages() -> dict[str, tuple[str, list[str]]]:
    """Name -> (what it starts from, its instructions)."""
    stages: dict[str, tuple[str, list[str]]] = {}
    current: list[str] = []
    for line in INSTRUCTIONS:
        if start := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            current = []
            stages[start[2]] = (start[1], current)
        else:
            current.append(line)
    return stages


def _whole(target: str) -> list[str]:
    """The instructions of a target and of every stage it starts from."""
    stages = _stages()
    lines: list[str] = []
    while target in stages:
        target, own = stages[target]
        lines = [*own, *lines]
    assert target == "${BASE}"
    return lines


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_the_final_stage_runs_as_a_fixed_user(target: str) -> None:
    users = [line for line in _whole(target) if line.startswith("USER")]
    assert users == ["USER 10001:10001"]
    assert compose.read(compose.MAIN)["services"]["worker-gpu"]["user"] == "10001:10001"


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_the_final_stage_takes_nothing_else_from_the_network(target: str) -> None:
    """But for the compiler of the CUDA image."""
    runs = [line for line in _whole(target) if line.startswith("RUN")]
    assert runs
    for line in runs:
        is_compiler = target == "cuda" and "apt-get" in line
        assert is_compiler or not re.search(r"build-essential|\bgcc\b|\bmake\b|apt-get|curl|wget", line)
        assert "pip" not in line or "--no-index" in line


def test_the_cuda_image_can_compile_kernels() -> None:
    """Triton and torch.compile need a C compiler, torch's headers, and a folder to write to and to load from."""
    lines = _whole("cuda")
    (installs,) = [line for line in lines if "apt-get" in line]
    packages = installs.partition("--no-install-recommends ")[2].partition("&&")[0].split()
    assert {"gcc", "libc6-dev"} <= set(packages)
    assert "rm -rf /var/lib/apt/lists/*" in installs
    variables = dict(re.findall(r"(\w+)=(\S+)", " ".join(line for line in lines if line.startswith("ENV"))))
    caches = (variables["TRITON_CACHE_DIR"], variables["TORCHINDUCTOR_CACHE_DIR"])
    (made,) = [line for line in lines if "useradd" in line]
    assert all(cache.startswith("/var/lib/hsae/kernels/") for cache in caches)
    assert "--owner hsae" in made
    assert "/var/lib/hsae/kernels" in made
    mounted = [volume.split(":")[1] for volume in compose.read(compose.MAIN)["services"]["worker-gpu"]["volumes"]]
    assert "/var/lib/hsae/kernels" in mounted
    build = " ".join(_whole("venv-cuda"))
    assert "torch/test" in build
    assert "torch/include" not in build
    assert "torch/include" in " ".join(_whole("venv-cpu"))


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_hsae_comes_from_its_wheel(target: str) -> None:
    lines = _whole(target)
    assert any("from=wheel" in line and "/wheels/*.whl" in line for line in lines)
    assert not any(line.startswith("COPY services") for line in lines)
    assert 'ENTRYPOINT ["hsae-admin"]' in lines
    assert not any(line.startswith("HEALTHCHECK") for line in lines)


def test_every_package_is_pinned() -> None:
    installs = [line for line in INSTRUCTIONS if "pip" in line and " install " in line and "--no-index" not in line]
    assert installs
    for line in installs:
        assert line.count(" install ") == line.count("--constraint constraints.txt")


def test_the_base_is_pinned_and_the_same_everywhere() -> None:
    base = next(line.removeprefix("ARG BASE=") for line in INSTRUCTIONS if line.startswith("ARG BASE="))
    assert re.fullmatch(r"python:3\.11-slim-\w+", base)
    arguments = compose.read(compose.MAIN)["services"]["migrate"]["build"]["args"]
    assert compose.with_defaults(arguments["BASE"]) == base


def test_the_build_reads_only_what_it_copies() -> None:
    allowed = {line[1:] for line in (compose.ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for line in INSTRUCTIONS
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    assert copied == allowed
    assert all((compose.ROOT / name).exists() for name in allowed)


@pytest.mark.parametrize(
    "name", ["make-env", "make-gpus", "worker-health", "compose-smoke", "stand-in-images", "stand-in-engine"]
)
def test_scripts_can_be_run(name: str) -> None:
    script = compose.ROOT / "deploy" / name
    assert script.stat().st_mode & 0o111
    if script.read_text().startswith("#!/bin/sh"):
        subprocess.run(["sh", "-n", script], check=True)
    else:
        compile(script.read_text(), name, "exec")
