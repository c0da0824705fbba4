"""The fleet as it is now, and what is done to it from its rows."""

from __future__ import annotations

import json
import re
from typing import Any

from conftest import Opened
from environment import Site
from playwright.sync_api import expect

# A figure, and no dash in its place.
FIGURE = re.compile(r"\d")


def audited(site: Site) -> list[dict[str, Any]]:
    """The lines of the audit log."""
    lines = (json.loads(line) for line in site.log.read_text().splitlines() if line.startswith("{"))
    return [line for line in lines if line.get("target") == "audit"]


def test_it_is_live_without_reload(opened: Opened, site: Site) -> None:
    page = opened()
    row = page.locator("tr[data-crew=bakery]")
    expect(row.get_by_role("meter")).to_have_attribute("aria-valuenow", "0")
    page.evaluate("window.here = true")
    gate = site.folder / "gate-live"
    running = site.kickoff("bakery", {"TOPIC": "rye", "WAY": "held", "GATE": str(gate)})
    expect(row.get_by_role("meter")).to_have_attribute("aria-valuenow", "1")
    gate.touch()
    site.ended(running)
    expect(row.get_by_role("meter")).to_have_attribute("aria-valuenow", "0")
    # What it took is in the figures: a duration, and tokens.
    expect(row.locator("td").nth(4)).to_have_text(FIGURE)
    expect(row.locator("td").nth(7)).to_have_text(FIGURE)
    expect(page.locator("tr[data-worker=worker-a]").get_by_text("Takes kickoffs")).to_be_visible()
    expect(page.locator("tr[data-worker=worker-a] td").nth(3)).to_contain_text("MiB")
    assert page.evaluate("window.here") is True


def test_a_crew_is_paused_and_resumed_from_its_row_with_who_did_it(opened: Opened, site: Site) -> None:
    page = opened()
    row = page.locator("tr[data-crew=echo]")
    row.get_by_role("button", name="Pause echo").click()
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(row.get_by_text("Paused")).to_be_visible()
    expect(row.get_by_text("by alice")).to_be_visible()
    waiting = site.kickoff("echo", {})
    expect(row.locator("td").nth(2)).to_have_text("1")
    expect(row.locator("td").nth(3)).to_have_text(FIGURE)
    row.get_by_role("button", name="Resume echo").click()
    expect(row.get_by_text("resumed by alice")).to_be_visible()
    site.ended(waiting)
    actions = [(line["action"], line["token"], line.get("crew")) for line in audited(site)]
    assert ("pause", "alice", "echo") in actions
    assert ("resume crew", "alice", "echo") in actions


def test_a_worker_is_drained_from_its_row(opened: Opened, site: Site) -> None:
    site.add_worker("worker-b")
    page = opened()
    row = page.locator("tr[data-worker=worker-b]")
    gate = site.folder / "gate-drain"
    # Both have some.
    running = [site.kickoff("bakery", {"TOPIC": "rye", "WAY": "held", "GATE": str(gate)}) for _ in range(4)]
    expect(row.get_by_role("meter")).not_to_have_attribute("aria-valuenow", "0")
    row.get_by_role("button", name="Drain worker-b").click()
    page.get_by_role("dialog").get_by_role("button", name="Drain").click()
    expect(row.get_by_text("Draining")).to_be_visible()
    expect(row.get_by_text("by alice")).to_be_visible()
    gate.touch()
    for kickoff_id in running:
        site.ended(kickoff_id)
    expect(row).to_have_count(0)
    site.workers.pop("worker-b").close()
    assert ("drain", "alice") in [(line["action"], line["token"]) for line in audited(site)]
