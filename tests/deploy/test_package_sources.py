"""No file names a package mirror: pip, apt, npm and debootstrap ask where the machine's own configuration says."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What configures where packages come from, with an address behind it.
CONFIGURES = re.compile(
    r"(--index-url|--extra-index-url|--find-links|--trusted-host|index[-_]url|_INDEX|_MIRROR|\bmirror=|\bregistry=|"
    r"^\s*deb(-src)? |\bdeb \[|debootstrap|sources\.list).*?\w+://",
    re.IGNORECASE,
)
# Hosts that serve packages, mirrors and the official ones.
HOSTS = re.compile(
    r"deb\.debian\.org|(ftp|security|snapshot)\.[\w.]*debian\.org|(archive|security|ports)\.ubuntu\.com|"
    r"files\.pythonhosted\.org|pypi\.org/simple|pypi\.python\.org|registry\.(npmjs|yarnpkg)\.\w+|"
    r"conda\.anaconda\.org|repo\.anaconda\.com|//mirrors?\.[a-z0-9-]+\.[a-z]{2,}|dl-cdn\.alpinelinux\.org",
    re.IGNORECASE,
)
# PyTorch's own index is no mirror: it alone has the builds without CUDA. HSAE_TORCH_INDEX_CPU replaces it.
PYTORCH = "https://download.pytorch.org/whl/cpu"


def names_a_mirror(line: str) -> bool:
    line = line.replace(PYTORCH, "")
    return bool(CONFIGURES.search(line) or HOSTS.search(line))


@pytest.mark.parametrize(
    "line",
    [
        "mirror=${HSAE_DEBIAN_MIRROR:-http://packages.example/debian}",
        "pip install --index-url https://packages.example/simple torch",
        "deb [signed-by=/usr/share/keyrings/a.gpg] http://packages.example/debian trixie main",
        "registry=https://packages.example/",
        "ARG PIP_INDEX=https://packages.example/simple",
    ],
)
def test_what_counts(line):
    assert names_a_mirror(line)


@pytest.mark.parametrize(
    "line",
    [
        "image: ${HSAE_S3_IMAGE:-quay.io/minio/minio:RELEASE}",
        '--index-url "${TORCH_INDEX_CPU}" torch',
        f"ARG TORCH_INDEX_CPU={PYTORCH}",
        "see https://pytorch.org/get-started/locally/",
    ],
)
def test_what_does_not(line):
    assert not names_a_mirror(line)


def test_no_tracked_file_names_a_package_mirror():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    found = []
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if not name or path == Path(__file__) or not path.is_file() or path.suffix in {".webp", ".png", ".zip"}:
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{name}:{number}: {line}" for number, line in enumerate(lines, 1) if names_a_mirror(line)]
    assert found == []
