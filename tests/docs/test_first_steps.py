"""What a new user is told works as it stands: hsae is installed from its checkout, and how many images make sense."""

import re
import tomllib

import pytest
from tests.docs.test_links import PAGES, ROOT

from hsae.extras import install_extra
from hsae.sae.config import SaeConfig, n_latents_of

CODE = sorted((ROOT / "services").rglob("*.py"))
INSTALLS = re.compile(r"\b(pip|pipx|uv)\b[^`#;|]*\binstall\b(?P<what>[^`#;|]*)")
OURS = re.compile(r"^hsae($|\[|[=<>~!])")
EXTRA = re.compile(r"\.\[([\w,-]+)\]")
NEAR = 6  # lines
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def wrong_installs(lines: list[str]) -> list[str]:
    """Lines that install hsae from where it is not, or an extra of it that is not there, or do not say where."""
    found = []
    for number, line in enumerate(lines):
        match = INSTALLS.search(line)
        words = match["what"].replace("'", " ").replace('"', " ").split() if match else []
        extras = [extra for word in words for names in EXTRA.findall(word) for extra in names.split(",")]
        near = " ".join(lines[max(0, number - NEAR) : number + NEAR + 1])
        if (
            any(OURS.match(word) for word in words)
            or not set(extras) <= {*PROJECT["optional-dependencies"], "{extra}"}
            or (extras and "checkout" not in near)
        ):
            found.append(line.strip())
    return found


@pytest.mark.parametrize(
    "line",
    [
        "pip install hsae",
        "python -m pip install 'hsae[monitor]'",
        "run `pip install hsae[embedded]==1.0`",
        "pip install '.[monitro]'  # in the checkout",
        "pip install '.[monitor]'",
    ],
)
def test_what_is_no_way_to_install_hsae(line):
    assert wrong_installs([line]) == [line]


@pytest.mark.parametrize(
    "line",
    [
        "pip install minio safetensors torch",
        "make install",
        "pip install '.[embedded,monitor]'   # in the checkout",
        "pip install hsae-1.0-py3-none-any.whl",
    ],
)
def test_what_is_one(line):
    assert wrong_installs([line]) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_install_hsae_from_its_checkout(page):
    assert wrong_installs(page.read_text(encoding="utf-8").splitlines()) == []


def test_messages_install_hsae_from_its_checkout():
    assert {path: found for path in CODE if (found := wrong_installs(path.read_text().splitlines()))} == {}
    for extra in PROJECT["optional-dependencies"]:
        assert install_extra(extra) == f"in hsae's checkout run `pip install '.[{extra}]'`"


def test_the_readme_says_the_smallest_data_set_that_makes_sense():
    """Classes, images of each, and rows: as many as an SAE with defaults has latents."""
    said = re.search(r"^- \*\*Size\.\*\*((?: .*\n)+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert said is not None
    words = " ".join(said[1].split())
    assert re.search(r"at least \d+ classes .*\d+ images in each", words)
    rows = re.search(r"as many training rows as latents \(([\d,]+) for dinov2-base with defaults\)", words)
    assert rows is not None
    assert int(rows[1].replace(",", "")) == n_latents_of(SaeConfig(), 768)
    assert "`submit` warns where there are fewer" in words
