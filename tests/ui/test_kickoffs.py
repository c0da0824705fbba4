"""The list of kickoffs: found, kept in the address, and handled together."""

from __future__ import annotations

import re
import uuid
from typing import Any
from urllib.parse import parse_qs, urlsplit

from conftest import Opened
from environment import Site
from playwright.sync_api import Page, Route, expect


def row(page: Page, kickoff_id: str) -> Any:
    """The row of a kickoff."""
    return page.locator(f"tr[data-key='{kickoff_id}']")


def test_state_counts_are_filters_and_the_address_survives_back_and_forward(opened: Opened, site: Site) -> None:
    good, bad = site.kickoff("echo", {}), site.kickoff("fail", {"message": "no flour"})
    site.ended(good), site.ended(bad)
    page = opened("/kickoffs")
    expect(row(page, good)).to_be_visible()
    failed = page.get_by_role("button", name=re.compile("^Failed"))
    expect(failed).to_have_text(re.compile(r"Failed [1-9]"))
    failed.click()
    expect(row(page, good)).to_have_count(0)
    expect(row(page, bad).get_by_text("no flour")).to_be_visible()
    page.get_by_label("Crew", exact=True).select_option("echo")
    expect(page.get_by_text("No kickoff is like that")).to_be_visible()
    assert page.url.endswith("/ui/kickoffs?status=failed&crew=echo")
    page.go_back()
    expect(row(page, bad)).to_be_visible()
    expect(page.get_by_label("Crew", exact=True)).to_have_value("")
    page.go_back()
    expect(row(page, good)).to_be_visible()
    expect(failed).to_have_attribute("aria-pressed", "false")
    page.go_forward()
    page.go_forward()
    expect(page.get_by_text("No kickoff is like that")).to_be_visible()
    page.reload()
    expect(failed).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_label("Crew", exact=True)).to_have_value("echo")


def test_they_are_found_by_id_words_meta_error_worker_and_time(opened: Opened, site: Site, allowed: list[str]) -> None:
    # A word may be an id, too: that is asked first.
    allowed.append("404")
    word = f"w{uuid.uuid4().hex[:8]}"
    mine = site.kickoff("echo", {"note": f"a loaf of {word}"}, meta={"customer": word})
    other, bad = site.kickoff("echo", {}), site.kickoff("fail", {"message": f"{word} is out"})
    for one in (mine, other, bad):
        site.ended(one)
    page = opened("/kickoffs?crew=echo")
    expect(row(page, other)).to_be_visible()
    search = page.get_by_role("searchbox", name=re.compile("^Search"))
    search.fill(word)
    search.press("Enter")
    expect(row(page, other)).to_have_count(0)
    expect(row(page, mine)).to_be_visible()
    page.get_by_role("button", name=f"Leave out Words: {word}").click()
    page.get_by_role("button", name="More filters").click()
    page.get_by_label("Key of meta").select_option("customer")
    page.get_by_label("Its value").fill(word)
    page.get_by_role("button", name="Apply").click()
    expect(row(page, other)).to_have_count(0)
    expect(row(page, mine)).to_be_visible()
    page.goto("/ui/kickoffs?range=1h&worker=worker-a")
    expect(row(page, bad)).to_be_visible()
    page.goto(f"/ui/kickoffs/{bad}")
    page.get_by_role("link", name="Kickoffs with this error").click()
    expect(row(page, bad)).to_be_visible()
    expect(row(page, mine)).to_have_count(0)
    page.goto("/ui/kickoffs?until=2020-01-01T00:00:00")
    expect(page.get_by_text("No kickoff is like that")).to_be_visible()
    search = page.get_by_role("searchbox", name=re.compile("^Search"))
    search.fill(mine)
    search.press("Enter")
    expect(page).to_have_url(f"{site.url}/ui/kickoffs/{mine}")


def test_columns_are_chosen_and_stay(opened: Opened, site: Site) -> None:
    site.ended(site.kickoff("echo", {}))
    page = opened("/kickoffs")
    table = page.get_by_role("region", name="Kickoffs, a table")
    expect(table.get_by_role("columnheader", name="Worker")).to_have_count(0)
    page.get_by_role("button", name="Columns").click()
    page.get_by_role("checkbox", name="Worker").check()
    page.get_by_role("checkbox", name="Tokens").uncheck()
    page.keyboard.press("Escape")
    expect(table.get_by_role("columnheader", name="Worker")).to_be_visible()
    page.reload()
    expect(table.get_by_role("columnheader", name="Worker")).to_be_visible()
    expect(table.get_by_role("columnheader", name="Tokens")).to_have_count(0)


def test_new_ones_come_and_states_change_without_reload(opened: Opened, site: Site) -> None:
    page = opened("/kickoffs?crew=bakery")
    expect(page.get_by_role("heading", name="Kickoffs")).to_be_visible()
    gate = site.folder / "gate-list"
    kickoff_id = site.kickoff("bakery", {"TOPIC": "rye", "WAY": "held", "GATE": str(gate)})
    expect(row(page, kickoff_id).get_by_text("Running")).to_be_visible()
    gate.touch()
    expect(row(page, kickoff_id).get_by_text("Succeeded")).to_be_visible()


def test_all_that_the_filter_finds_are_cancelled_and_retried_after_a_preview(opened: Opened, site: Site) -> None:
    customer = uuid.uuid4().hex[:8]
    meta = {"customer": customer}
    ids = [site.kickoff("sleep", {"seconds": 600}, meta=meta) for _ in range(5)]
    other = site.kickoff("sleep", {"seconds": 600})
    page = opened(f"/kickoffs?meta.customer={customer}")
    expect(row(page, ids[0])).to_be_visible()
    page.get_by_role("button", name="Cancel all").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("5 kickoffs would be cancelled")).to_be_visible()
    dialog.get_by_role("button", name="Cancel 5").click()
    expect(dialog.get_by_text("5 cancelled. Done.")).to_be_visible()
    expect(dialog.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "5")
    dialog.get_by_role("button", name="Close").click()
    for kickoff_id in ids:
        expect(row(page, kickoff_id).get_by_text("Cancelled", exact=True)).to_be_visible()
    assert site.call(f"/v1/kickoffs/{other}")["status"] in {"queued", "running"}
    site.call(f"/v1/kickoffs/{other}/cancel", {})
    # Those are retried that failed, unless others are chosen.
    for _ in range(3):
        site.ended(site.kickoff("fail", {"message": "once"}, meta=meta))
    page.get_by_role("button", name=re.compile("^Failed")).click()
    page.get_by_role("button", name="Retry all").click()
    expect(dialog.get_by_text("3 kickoffs would be started once more")).to_be_visible()
    dialog.get_by_role("button", name="Retry 3").click()
    expect(dialog.get_by_text("3 started once more. Done.")).to_be_visible()
    dialog.get_by_role("button", name="Close").click()
    expect(page.locator("tbody tr.link")).to_have_count(6)


def test_ten_thousand_rows_scroll(opened: Opened, site: Site) -> None:
    rows = 10_000

    def answer(route: Route) -> None:
        first = int(parse_qs(urlsplit(route.request.url).query).get("cursor", ["0"])[0])
        items = [item(number) for number in range(first, min(first + 200, rows))]
        after = first + 200
        route.fulfill(json={"items": items, "next_cursor": str(after) if after < rows else None})

    def item(number: int) -> dict[str, Any]:
        left = rows - number
        made = f"2026-11-{1 + left // 1440:02}T{left // 60 % 24:02}:{left % 60:02}:00Z"
        fields = ["started_at", "finished_at", "worker", "error", "tokens", "meta", "chain"]
        return {"kickoff_id": f"many-{number:05}", "crew": "echo", "status": "queued", "created_at": made, "attempt": 1, "redrive": 0, **dict.fromkeys(fields)}

    page = opened("/")
    page.route(re.compile(r"/v1/kickoffs\?"), answer)
    page.get_by_role("link", name="Kickoffs").click()
    table = page.get_by_role("region", name="Kickoffs, a table")
    expect(row(page, "many-00000")).to_be_visible()
    last = row(page, f"many-{rows - 1:05}")
    for shown in range(200, rows + 1, 200):
        expect(page.get_by_text(re.compile(rf"^{shown} shown"))).to_be_visible()
        table.evaluate("box => { box.scrollTop = box.scrollHeight }")
    expect(last).to_be_visible()
    # Those are drawn that are seen.
    assert page.locator("tbody tr.link").count() < 120
