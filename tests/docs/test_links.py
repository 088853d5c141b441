"""Links and paths in the README and in docs/ lead to something that exists; no network is asked."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *DOCS.glob("*.md"),
        *(ROOT / name / "README.md" for name in ("deploy", "benchmarks", "training")),
    ]
)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_PATH = re.compile(r"`((?:services|worker|migrations|tests|docs|deploy|benchmarks|training|\.ci)/[\w./-]*\w/?)`")


def prose(page: Path) -> str:
    """The page without code blocks, in which brackets and parentheses are no links."""
    return re.sub(r"^(`{3,}).*?^\1$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    found = set()
    for heading in _HEADING.findall(prose(page)):
        words = re.sub(r"[^\w\s-]", "", re.sub(r"[`*]", "", heading).lower())
        found.add(re.sub(r"\s", "-", words.strip()))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_a_file_and_a_heading(page):
    broken = []
    for target in _LINK.findall(prose(page)):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_of_the_repository_exist(page):
    """`services/...` in backticks. The changelog may name what is no more."""
    if page.name == "CHANGELOG.md":
        return
    missing = [path for path in _PATH.findall(page.read_text(encoding="utf-8")) if not (ROOT / path).exists()]
    assert missing == []


def test_every_page_is_in_the_navigation():
    listed = (DOCS / "index.md").read_text(encoding="utf-8")
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    named = {page for entry in navigation for value in entry.values() for page in _pages(value)}
    pages = {page.name for page in DOCS.glob("*.md")}
    assert named == pages
    assert {page for page in pages if f"({page})" in listed} == pages - {"index.md"}


def _pages(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    assert isinstance(value, list)
    return [page for entry in value for page in entry.values()]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 120
