"""A real headless Chromium for tests of pages: a console error fails the test, and axe-core reads the page."""

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
]  # fmt: skip
_PATIENCE_SECONDS = 240  # for one event, on a machine with much other work
WIDE, NARROW = (1400, 900), (420, 860)
COLOUR_RULES = ("color-contrast", "link-in-text-block")
"""What a dark page may break beyond the light one: nothing else of a page depends on its colours."""


@pytest.fixture(scope="session")
def chromium() -> "Iterator[Browser]":
    """One browser for the session; `opened` opens pages in it."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs Debian's chromium, which is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_OPTIONS)
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: "Browser",
    url: str,
    *,
    offline: bool = False,
    dark: bool = False,
    size: tuple[int, int] = WIDE,
    refused: Collection[str] = (),
) -> "Iterator[Page]":
    """The page at an address, in a profile of its own, for the block.

    At the end the test fails if the page wrote an error to the console, raised one, asked for what it did not get, or,
    where it is offline, asked for anything at all over the network.

    Args:
        browser: the fixture `chromium`.
        url: http:// or file://.
        offline: whether the network is off.
        dark: whether the reader prefers a dark page.
        size: width and height of the window.
        refused: addresses that answer with an error, which the console may say.
    """
    context = browser.new_context(
        offline=offline,
        color_scheme="dark" if dark else "light",
        viewport={"width": size[0], "height": size[1]},
        reduced_motion="reduce",
    )
    context.set_default_timeout(_PATIENCE_SECONDS * 1000)
    errors: list[str] = []
    try:
        page = context.new_page()
        page.on(
            "console",
            lambda message: (
                errors.append(f"{page.url}: {message.text}")
                if message.type == "error" and message.location["url"] not in refused
                else None
            ),
        )
        page.on("pageerror", lambda error: errors.append(f"{page.url}: {error}"))
        page.on("requestfailed", lambda request: errors.append(f"not loaded: {request.url[:200]}"))
        page.on(
            "response",
            lambda answer: (
                errors.append(f"{answer.status} {answer.url}")
                if answer.status >= 400 and answer.url not in refused
                else None
            ),
        )
        if offline:
            page.on(
                "request",
                lambda request: errors.append(f"asked for {request.url}") if _is_remote(request.url) else None,
            )
        page.goto(url)
        yield page
        assert errors == [], errors
    finally:
        context.close()


def violations(page: "Page", *rules: str) -> list[str]:
    """What axe-core finds wrong with a page for people who see badly or use no mouse: one line per rule and element.

    Args:
        page: an open page.
        rules: those of axe-core that are looked at; all by default.
    """
    from axe_playwright_python.sync_playwright import Axe

    options = {"resultTypes": ["violations"]} | ({"runOnly": list(rules)} if rules else {})
    found: list[dict[str, Any]] = Axe().run(page, options=options).response["violations"]
    return [f"{rule['id']}: {node['html'][:200]} {node['failureSummary']}" for rule in found for node in rule["nodes"]]


def _is_remote(url: str) -> bool:
    return not url.startswith(("file:", "data:", "blob:", "about:"))
