"""Tokens by crew, model and tenant, and those that were spent in vain."""

from __future__ import annotations

import uuid

from conftest import Opened
from environment import Site
from playwright.sync_api import expect


def test_tokens_are_told_by_tenant_and_model_with_what_was_wasted(opened: Opened, site: Site) -> None:
    tenant = f"t-{uuid.uuid4().hex[:8]}"
    for way in ("fine", "fail", "flaky"):
        site.ended(site.kickoff("bakery", {"TOPIC": "rye", "WAY": way}, meta={"tenant": tenant}))
    page = opened("/spend?window=1h&by=tenants")
    cells = page.get_by_role("row").filter(has_text=tenant).get_by_role("cell")
    # Four attempts of 1,840: one failed, one was tried again.
    expect(cells.nth(0)).to_have_text("7,360")
    expect(cells.nth(4)).to_have_text("1,840")
    expect(cells.nth(5)).to_have_text("1,840")
    expect(cells.nth(7)).to_have_text("50 %")
    expect(page.get_by_role("img", name="Tokens of the last 1 hour by tenant")).to_be_visible()
    page.get_by_role("button", name="By model").click()
    expect(page.get_by_role("row").filter(has_text="claude-haiku-5")).to_be_visible()
    assert page.url.endswith("/ui/spend?window=1h&by=models")
    page.go_back()
    expect(page.get_by_role("row").filter(has_text=tenant)).to_be_visible()
