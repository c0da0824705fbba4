"""A gateway that goes away, and comes back."""

from __future__ import annotations

from conftest import Opened
from environment import Site
from playwright.sync_api import expect


def test_a_banner_says_so_and_all_goes_on_by_itself(opened: Opened, site: Site, allowed: list[str]) -> None:
    # It is not there, and then it does not know the workers yet.
    allowed += ["ERR_", "503"]
    gate = site.folder / "gate-away"
    kickoff_id = site.kickoff("bakery", {"TOPIC": "rye", "WAY": "held", "GATE": str(gate)})
    pages = [opened(path) for path in ("", "/kickoffs", f"/kickoffs/{kickoff_id}")]
    fleet, listed, one = pages
    expect(one.get_by_text("It is at the task write")).to_be_visible()
    expect(listed.locator(f"tr[data-key='{kickoff_id}']")).to_be_visible()
    expect(fleet.locator("tr[data-crew=bakery]")).to_be_visible()
    site.stop_gateway()
    for page in pages:
        page.evaluate("window.here = true")
        expect(page.get_by_text("The gateway does not answer. Trying again …")).to_be_visible()
    # What was there stays.
    expect(fleet.locator("tr[data-crew=bakery]")).to_be_visible()
    expect(listed.locator(f"tr[data-key='{kickoff_id}']")).to_be_visible()
    gate.touch()
    site.start_gateway()
    for page in pages:
        expect(page.get_by_text("Trying again …")).to_have_count(0)
    expect(one.get_by_role("heading", name="Result")).to_be_visible()
    expect(listed.locator(f"tr[data-key='{kickoff_id}']").get_by_text("Succeeded")).to_be_visible()
    # Nothing is told twice: the events went on behind the last one.
    expect(one.locator(".waterfall li[data-kind=attempt]")).to_have_count(1)
    assert all(page.evaluate("window.here") for page in pages)
