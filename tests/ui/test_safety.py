"""What pages must never do: run what crews say, keep what crews are given, or load anything from elsewhere."""

from __future__ import annotations

import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

import pytest
from conftest import ARGUMENTS, CHROMIUM, Opened
from crew import MARKUP
from environment import Site
from playwright.sync_api import Browser, Page, Response, expect

SINK = "window.broken || document.title.includes('broken') || document.querySelectorAll('#app img:not([src=\"/ui/icon.svg\"]), #app script, #app iframe').length > 0"


def unbroken(page: Page) -> None:
    """What looked like markup has made no element, and has run nothing."""
    assert page.evaluate(SINK) is False


def test_markup_is_text_in_every_place(opened: Opened, site: Site) -> None:
    inputs = {"TOPIC": MARKUP, "WAY": "markup", MARKUP: MARKUP}
    good = site.kickoff("bakery", inputs, meta={"customer": MARKUP, "tenant": MARKUP, "batch": MARKUP})
    bad = site.kickoff("bakery", {"TOPIC": "x", "WAY": "fail", "ERROR": MARKUP}, meta={"customer": MARKUP})
    site.ended(good), site.ended(bad)
    page = opened(f"/kickoffs/{good}")
    expect(page.get_by_role("heading", name="Result")).to_be_visible()
    # Names of inputs, values, agents, lines of the log, meta, the result.
    expect(page.get_by_text(MARKUP).nth(4)).to_be_attached()
    for tab in ("Text", "JSON", "Tasks 1", "Whole reply", "Markdown"):
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tabpanel")).not_to_be_empty()
        unbroken(page)
    expect(page.get_by_role("log")).to_contain_text(MARKUP)
    page.get_by_role("link", name="Edit and run again").click()
    expect(page.get_by_label("TOPIC")).to_have_value(MARKUP)
    unbroken(page)
    page.goto(f"/ui/kickoffs/{bad}")
    expect(page.locator(".message")).to_contain_text(MARKUP)
    expect(page.get_by_role("region", name="Traceback")).to_contain_text(MARKUP)
    unbroken(page)
    page.goto(f"/ui/kickoffs?{urlencoded({'meta.customer': MARKUP})}")
    expect(page.locator(f"tr[data-key='{bad}']")).to_contain_text(MARKUP)
    expect(page.get_by_role("button", name="Leave out meta.customer")).to_contain_text(MARKUP)
    page.get_by_role("button", name="Columns").click()
    for column in ("Meta", "Tenant", "Batch"):
        page.get_by_role("checkbox", name=column).check()
    expect(page.locator(f"tr[data-key='{good}']")).to_contain_text(MARKUP)
    unbroken(page)
    site.letters("onerror", 1)
    page.goto("/ui/errors?crew=bakery")
    expect(page.get_by_role("row").filter(has_text=MARKUP)).to_be_visible()
    unbroken(page)
    page.goto("/ui/spend?window=1h&by=tenants")
    expect(page.get_by_role("rowheader", name=MARKUP)).to_be_visible()
    unbroken(page)


def urlencoded(pairs: dict[str, str]) -> str:
    """As it stands in an address."""
    return urllib.parse.urlencode(pairs)


def test_links_of_markdown_lead_to_the_web_alone(opened: Opened, site: Site) -> None:
    raw = "[a](javascript:alert(1)) [b](data:text/html,x) [c](https://example.org/c) <https://example.org/d> [e](//example.org)"
    kickoff_id = site.kickoff("bakery", {"TOPIC": "x", "WAY": "say", "ERROR": raw})
    site.ended(kickoff_id)
    page = opened(f"/kickoffs/{kickoff_id}")
    links = page.get_by_role("tabpanel").get_by_role("link")
    expect(links).to_have_count(2)
    for link in links.all():
        assert (link.get_attribute("href") or "").startswith("https://example.org/")
        assert "noopener" in (link.get_attribute("rel") or "")


def test_files_have_the_headers_that_keep_browsers_strict(site: Site) -> None:
    for path in ("/ui", "/ui/kickoffs/some-id", "/ui/app.js", "/ui/theme.css"):
        with urllib.request.urlopen(site.url + path, timeout=30) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
    assert urllib.request.urlopen(site.url, timeout=30).read() == b"Healthy"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{site.url}/ui/../Cargo.toml", timeout=30)


def test_script_that_stands_in_the_page_does_not_run(opened: Opened, allowed: list[str]) -> None:
    allowed += ["Content Security Policy", "TrustedHTML", "Refused", "requires"]
    page = opened()
    expect(page.get_by_role("heading", name="Fleet")).to_be_visible()
    page.evaluate("""() => {
        const script = document.createElement('script');
        try { script.textContent = 'window.broken = true'; document.body.append(script) } catch {}
        try { document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.broken = true">') } catch {}
    }""")
    unbroken(page)


def test_nothing_is_asked_of_anybody_else(opened: Opened, site: Site) -> None:
    page = opened(token=None)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_label("Token").fill(site.admin)
    page.get_by_role("button", name="Sign in").click()
    for name in ("Kickoffs", "Start", "Errors", "Spend", "Fleet"):
        page.get_by_role("link", name=name, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_contain_text(name)
    assert asked
    for url in asked:
        assert url.startswith((site.url, "data:"))
        assert site.admin not in url


def test_inputs_and_results_are_in_no_cache_of_the_browser(site: Site, browser: Browser) -> None:
    secret = f"secret{uuid.uuid4().hex}"
    kickoff_id = site.kickoff("bakery", {"TOPIC": secret})
    site.ended(kickoff_id)
    with tempfile.TemporaryDirectory() as folder:
        context = browser.browser_type.launch_persistent_context(folder, executable_path=CHROMIUM, args=ARGUMENTS, base_url=site.url)
        context.add_init_script(f"sessionStorage.setItem('crewfleet.token', '{site.admin}')")
        page = context.new_page()
        answers: list[Response] = []

        def answered(answer: Response) -> None:
            answers.append(answer)

        page.on("response", answered)
        page.goto(f"/ui/kickoffs/{kickoff_id}")
        expect(page.get_by_text(secret).first).to_be_visible()
        expect(page.get_by_role("heading", name="Result")).to_be_visible()
        data = [answer for answer in answers if "/v1/" in answer.url and not answer.url.endswith("/events")]
        assert data
        assert [answer.url for answer in data if answer.headers.get("cache-control") != "no-store"] == []
        # What is asked of the cache alone is not there.
        for path in (f"/v1/kickoffs/{kickoff_id}/request", f"/v1/kickoffs/{kickoff_id}/result"):
            asked = f"fetch('{path}', {{cache: 'only-if-cached', mode: 'same-origin'}}).then(answer => answer.status, () => 'none')"
            assert page.evaluate(asked) in {"none", 504}
        assert page.evaluate("Object.keys(localStorage).length + document.cookie.length") == 0
        context.close()
        found = [
            file for file in Path(folder).rglob("*") if file.is_file() and re.search(secret.encode(), file.read_bytes()) and "Session" not in file.parts[-2]
        ]
        assert [str(file) for file in found] == []
