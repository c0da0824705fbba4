"""A real RabbitMQ, a fleet, a gateway, and Debian's Chromium, whose pages may say nothing to the console that is an error."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from environment import PROGRAMS, Site
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
# Where the node is, for processes that share it.
NODE = "CREWFLEET_UI_BROKER_URL"
# Far above what anything takes on a busy machine.
PATIENCE_MS = 30_000
# In a container there are no namespaces for a sandbox, and nothing but our own pages is opened.
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]

expect.set_options(timeout=PATIENCE_MS)

Opened = Callable[..., Page]


def pytest_configure(config: pytest.Config) -> None:
    """Starts the node that all processes of tests share: the first one does, and the others are told where it is."""
    if NODE in os.environ:
        return
    owner = subprocess.Popen([str(PROGRAMS / "node-owner")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    owner.stdout.readline()
    os.environ[NODE] = owner.stdout.readline().strip()

    def end() -> None:
        owner.kill()
        owner.wait()

    config.add_cleanup(end)


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """A fleet and a gateway for all tests of this process."""
    site = Site(os.environ[NODE])
    yield site
    site.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser of all tests; each has a context of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def allowed() -> list[str]:
    """Parts of errors that the test itself brings about."""
    return []


@pytest.fixture(scope="session")
def contexts(browser: Browser) -> dict[tuple[str, int], BrowserContext]:
    """By colours and width: a new one would load and compile all scripts anew."""
    return {}


def context_of(browser: Browser, contexts: dict[tuple[str, int], BrowserContext], url: str, theme: str, width: int) -> BrowserContext:
    """The context of these, which is made once."""
    if (theme, width) not in contexts:
        context = browser.new_context(base_url=url, color_scheme=theme, viewport={"width": width, "height": 900}, reduced_motion="reduce")  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE_MS)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts[theme, width] = context
    return contexts[theme, width]


# Once in each tab: a session that ends has no token any more.
SIGNED_IN = """if (!sessionStorage.getItem('test')) {
    localStorage.clear();
    sessionStorage.setItem('test', '1');
    sessionStorage.setItem('crewfleet.token', %r);
}"""


@pytest.fixture
def opened(site: Site, browser: Browser, contexts: dict[tuple[str, int], BrowserContext], allowed: list[str]) -> Iterator[Opened]:
    """Opens a page, signed in with the token that is given."""
    pages: list[Page] = []
    errors: list[str] = []

    def watched(kind: str, text: str) -> None:
        if not any(part in text for part in allowed):
            errors.append(f"{kind}: {text}")

    def open_page(path: str = "", token: str | None = "", theme: str = "light", width: int = 1400) -> Page:
        page = context_of(browser, contexts, site.url, theme, width).new_page()
        pages.append(page)
        if token is not None:
            page.add_init_script(SIGNED_IN % (token or site.admin))
        page.on("console", lambda message: watched(message.type, message.text) if message.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: watched("error", str(error)))
        page.goto(f"/ui{path}")
        return page

    yield open_page
    for page in pages:
        page.close()
    assert errors == []
