"""Who may read, and what becomes of a session."""

from __future__ import annotations

from conftest import Opened
from environment import Site
from playwright.sync_api import expect


def test_a_token_signs_in_and_another_one_does_not(opened: Opened, site: Site, allowed: list[str]) -> None:
    allowed.append("401")
    page = opened("/spend", token=None)
    page.get_by_label("Token").fill("no-token-of-this-gateway")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("The gateway does not know this token")).to_be_visible()
    page.get_by_label("Token").fill(site.reader)
    page.get_by_label("Token").press("Enter")
    # One is where one wanted to be, and the address has no token.
    expect(page.get_by_role("heading", name="Spend")).to_be_visible()
    assert page.url == f"{site.url}/ui/spend"
    page.reload()
    expect(page.get_by_role("heading", name="Spend")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    assert page.evaluate("sessionStorage.getItem('crewfleet.token')") is None


def test_a_session_that_ends_leads_to_the_sign_in_and_back(opened: Opened, site: Site, allowed: list[str]) -> None:
    allowed.append("401")
    token = site.token("guest", "--all-crews", "--scope", "read")
    page = opened("/kickoffs?status=failed&crew=fail", token=token)
    expect(page.get_by_role("heading", name="Kickoffs")).to_be_visible()
    site.cli("token", "revoke", "guest")
    expect(page.get_by_text("Your session has ended")).to_be_visible()
    page.get_by_label("Token").fill(site.admin)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Kickoffs")).to_be_visible()
    assert page.url == f"{site.url}/ui/kickoffs?status=failed&crew=fail"
    expect(page.get_by_role("button", name="Failed")).to_have_attribute("aria-pressed", "true")


def test_who_may_only_look_is_offered_nothing_else(opened: Opened, site: Site) -> None:
    ended = site.kickoff("echo", {"a": 1})
    site.ended(ended)
    page = opened("", token=site.reader)
    expect(page.get_by_text("read-only")).to_be_visible()
    expect(page.locator("tr[data-crew=echo]")).to_be_visible()
    expect(page.get_by_role("button", name="Pause echo")).to_have_count(0)
    expect(page.get_by_role("button", name="Drain worker-a")).to_have_count(0)
    page.get_by_role("link", name="Kickoffs").click()
    expect(page.locator(f"tr[data-key='{ended}']")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel all")).to_have_count(0)
    page.get_by_role("link", name="Start").click()
    expect(page.get_by_text("it lacks the scope kickoff")).to_be_visible()
    page.goto(f"/ui/kickoffs/{ended}")
    expect(page.get_by_role("heading", name="Result")).to_be_visible()
    expect(page.get_by_role("button", name="Retry")).to_have_count(0)
    expect(page.get_by_role("link", name="Edit and run again")).to_have_count(0)


def test_a_tenant_sees_its_own_alone_and_pauses_nothing(opened: Opened, site: Site) -> None:
    own, other = site.kickoff("echo", {}, meta={"tenant": "acme"}), site.kickoff("echo", {}, meta={"tenant": "other"})
    site.ended(own), site.ended(other)
    page = opened("/kickoffs", token=site.tenant)
    expect(page.locator(f"tr[data-key='{own}']")).to_be_visible()
    expect(page.locator(f"tr[data-key='{other}']")).to_have_count(0)
    page.get_by_role("link", name="Fleet").click()
    expect(page.locator("tr[data-crew=echo]")).to_be_visible()
    expect(page.get_by_role("button", name="Pause echo")).to_have_count(0)
