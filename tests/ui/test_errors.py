"""Dead letters, grouped, run again and thrown away."""

from __future__ import annotations

import uuid

from conftest import Opened
from environment import Site
from playwright.sync_api import expect


def test_letters_that_died_alike_are_one_row_and_are_redriven(opened: Opened, site: Site) -> None:
    word = uuid.uuid4().hex.translate(str.maketrans("0123456789", "ghijklmnop"))
    ids = [site.kickoff("fail", {"message": f"no {word} number {n}"}) for n in range(4)]
    for kickoff_id in ids:
        site.ended(kickoff_id)
    site.letters(word, 4)
    page = opened("/errors")
    row = page.get_by_role("row").filter(has_text=word)
    expect(row).to_have_count(1)
    expect(row.get_by_role("cell").nth(2)).to_have_text("4")
    expect(row.get_by_role("img", name="4 letters in 24 hours")).to_be_visible()
    expect(row.get_by_role("cell").nth(4)).to_contain_text("ago" if "ago" in row.inner_text() else "just now")
    row.get_by_role("button", name="Redrive").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("At most so many a second").fill("100")
    dialog.get_by_role("button", name="Dry run").click()
    expect(dialog.get_by_text("4 letters would be redriven")).to_be_visible()
    dialog.get_by_role("button", name="Redrive").click()
    expect(page.get_by_text("4 letters redriven.")).to_be_visible()
    row.get_by_role("link", name="An example").click()
    expect(page.get_by_text("1, after 1 redrive")).to_be_visible()
    expect(page.get_by_role("status").get_by_text("Failed")).to_be_visible()


def test_letters_are_thrown_away(opened: Opened, site: Site) -> None:
    word = uuid.uuid4().hex.translate(str.maketrans("0123456789", "ghijklmnop"))
    site.ended(site.kickoff("fail", {"message": f"no {word}"}))
    site.letters(word, 1)
    page = opened("/errors?crew=fail")
    row = page.get_by_role("row").filter(has_text=word)
    row.get_by_role("button", name="Purge").click()
    page.get_by_role("dialog").get_by_role("button", name="Dry run").click()
    expect(page.get_by_text("1 letter would be purged")).to_be_visible()
    page.get_by_role("dialog").get_by_role("button", name="Purge").click()
    expect(page.get_by_text("1 letter purged.")).to_be_visible()
    expect(row).to_have_count(0)
    # Who may not is not asked.
    other = opened("/errors", token=site.tenant)
    expect(other.get_by_role("heading", name="Errors")).to_be_visible()
    expect(other.get_by_role("button", name="Purge")).to_have_count(0)
