"""Each page in light, dark and on a phone: nothing keeps anybody out, and all fits. Where CREWFLEET_UI_SHOTS names a folder,
pictures of them are put there.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import Opened
from environment import Site
from playwright.sync_api import Page, expect

SHOTS = os.environ.get("CREWFLEET_UI_SHOTS")
# What axe looks at is the same on a phone.
WIDE = 1000
LOOKS = [("light", 1400), ("dark", 1400), ("dark", 390)]


@pytest.fixture(scope="module")
def pages(site: Site) -> dict[str, tuple[str, str]]:
    """Addresses, and a heading of each that is there when the page is."""
    good = site.kickoff("bakery", {"TOPIC": "rye", "WAY": "flaky", "LOAVES": 12}, meta={"tenant": "acme"}, then=[{"crew": "echo"}])
    bad = site.kickoff("bakery", {"TOPIC": "rye", "WAY": "fail"}, meta={"tenant": "globex"})
    for one in (good, bad):
        site.ended(one)
    return {
        "fleet": ("", "Workers"),
        "kickoffs": ("/kickoffs?crew=bakery", "Kickoffs"),
        "kickoff": (f"/kickoffs/{good}", "Result"),
        "failed": (f"/kickoffs/{bad}", "Traceback"),
        "start": ("/start?crew=bakery", "Start a kickoff"),
        "errors": ("/errors", "Errors"),
        "spend": ("/spend?window=1h&by=models", "Tokens over time"),
    }


def looked_at(page: Page, name: str, theme: str, width: int) -> None:
    """What axe finds, and whether the page is wider than its window."""
    if SHOTS:
        page.screenshot(path=Path(SHOTS, f"{name}-{theme}-{width}.png"), full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than {width}"
    if width < WIDE:
        return
    # In the dark colours are others, and all else is the same.
    rules = {
        "light": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]},
        "dark": {"type": "rule", "values": ["color-contrast"]},
    }
    found = Axe().run(page, options={"runOnly": rules[theme], "resultTypes": ["violations"]})
    serious = [violation for violation in found.response["violations"] if violation["impact"] in {"serious", "critical", "moderate"}]
    told = [(violation["id"], [node["html"][:200] + " " + node["failureSummary"][:300] for node in violation["nodes"][:3]]) for violation in serious]
    assert told == [], name


@pytest.mark.parametrize(("theme", "width"), LOOKS)
def test_nothing_keeps_anybody_out(opened: Opened, pages: dict[str, tuple[str, str]], theme: str, width: int) -> None:
    page = opened(theme=theme, width=width)
    for name, (path, heading) in pages.items():
        page.goto(f"/ui{path}")
        expect(page.get_by_role("heading", name=heading, exact=True).first).to_be_visible()
        expect(page.get_by_text("Loading …")).to_have_count(0)
        looked_at(page, name, theme, width)
    page.goto("/ui/kickoffs?crew=bakery")
    page.get_by_role("button", name="More filters").click()
    page.get_by_role("button", name="Columns").click()
    looked_at(page, "filters", theme, width)
    page.goto("/ui/errors")
    page.get_by_role("button", name="Redrive").first.click()
    page.get_by_role("button", name="Dry run").click()
    expect(page.get_by_text("would be redriven")).to_be_visible()
    looked_at(page, "redrive", theme, width)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    looked_at(page, "sign-in", theme, width)


def test_it_works_by_keyboard_alone(opened: Opened, site: Site) -> None:
    site.ended(site.kickoff("fail", {"message": "by keyboard"}))
    page = opened()
    expect(page.get_by_role("heading", name="Workers")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Kickoffs")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Kickoffs")).to_be_visible()
    failed = page.get_by_role("button", name="Failed")
    failed.focus()
    page.keyboard.press("Space")
    expect(failed).to_have_attribute("aria-pressed", "true")
    first = page.locator("tbody tr.link").first.get_by_role("link")
    first.focus()
    page.keyboard.press("Enter")
    retry = page.get_by_role("button", name="Retry")
    expect(retry).to_be_enabled()
    retry.focus()
    page.keyboard.press("Enter")
    # Within the dialog, and back where one was.
    expect(page.get_by_role("dialog").get_by_role("button", name="Back")).to_be_focused()
    page.keyboard.press("Escape")
    expect(retry).to_be_focused()
