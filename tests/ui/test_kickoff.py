"""One kickoff: its waterfall, what it waits for, what it came to, and what is done with it."""

from __future__ import annotations

import re

from conftest import Opened
from crew import MARKDOWN
from environment import Site
from playwright.sync_api import Page, expect


def bars(page: Page, kind: str) -> list[str]:
    """What the bars of a kind say."""
    return page.locator(f".waterfall li[data-kind={kind}]").all_inner_texts()


def test_the_waterfall_has_waits_attempts_tasks_agents_tools_and_models(opened: Opened, site: Site) -> None:
    page = opened()
    kickoff_id = site.kickoff("bakery", {"TOPIC": "rye", "WAY": "flaky"})
    page.goto(f"/ui/kickoffs/{kickoff_id}")
    # Between its attempts it waits, and that is said in words.
    expect(page.get_by_text("It waits for attempt 2")).to_be_visible()
    expect(page.get_by_role("status").get_by_text("Succeeded")).to_be_visible()
    expect(page.locator(".waterfall li[data-kind=attempt]")).to_have_count(2)
    expect(page.locator(".waterfall li[data-kind=queue]")).to_have_count(2)
    for kind, name in [("task", "research"), ("agent", "Researcher of rye"), ("tool", "search"), ("llm", "gpt-5-mini")]:
        found = bars(page, kind)
        assert len(found) == (4 if kind == "llm" else 2)
        assert name in found[0]
        assert re.search(r"\d+ ms|\d s", found[0])
    assert "1.2K tok" in bars(page, "llm")[0]
    assert "1.8K tok" in bars(page, "attempt")[1]
    expect(page.get_by_text("3,680 with attempts that failed")).to_be_visible()


def test_it_is_live_while_it_runs(opened: Opened, site: Site) -> None:
    gate = site.folder / "gate-one"
    kickoff_id = site.kickoff("bakery", {"TOPIC": "rye", "WAY": "held", "GATE": str(gate)})
    page = opened(f"/kickoffs/{kickoff_id}")
    expect(page.get_by_text("It is at the task write")).to_be_visible()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    expect(page.get_by_role("log").get_by_text("looking into rye")).to_be_visible()
    page.evaluate("window.here = true")
    gate.touch()
    expect(page.get_by_role("heading", name="Result")).to_be_visible()
    expect(page.get_by_role("status").get_by_text("Succeeded")).to_be_visible()
    assert page.evaluate("window.here") is True


def test_a_result_is_shown_as_markdown_text_json_and_tasks(opened: Opened, site: Site) -> None:
    kickoff_id = site.kickoff("bakery", {"TOPIC": "rye"})
    site.ended(kickoff_id)
    page = opened(f"/kickoffs/{kickoff_id}")
    panel = page.get_by_role("tabpanel")
    expect(panel.get_by_role("heading", name="Rye bread sells")).to_be_visible()
    expect(panel.get_by_role("listitem")).to_have_count(4)
    expect(panel.get_by_role("link", name="source")).to_have_attribute("rel", re.compile("noopener"))
    expect(panel.get_by_role("cell", name="4.20")).to_be_visible()
    page.get_by_role("tab", name="Text").click()
    expect(panel.locator("pre")).to_have_text(MARKDOWN)
    page.get_by_role("tab", name="Text").press("ArrowRight")
    expect(panel.locator("pre")).to_contain_text('"loaves": 2')
    page.get_by_role("tab", name="Tasks 1").click()
    expect(panel.get_by_text("by Researcher of rye")).to_be_visible()
    expect(page.get_by_role("region", name="Facts")).to_contain_text("1,840")


def test_files_are_shown_and_saved(opened: Opened, site: Site) -> None:
    kickoff_id = site.kickoff("bakery", {"TOPIC": "rye", "WAY": "file"})
    site.ended(kickoff_id)
    page = opened(f"/kickoffs/{kickoff_id}")
    page.get_by_role("tab", name="Files 1").click()
    page.get_by_text("Show", exact=True).click()
    expect(page.get_by_text("a recipe for rye")).to_be_visible()
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save recipes/rye.md").click()
    assert saving.value.suggested_filename == "rye.md"
    assert saving.value.path().read_text() == "a recipe for rye\n"


def test_an_error_is_shown_with_its_traceback_and_tried_again(opened: Opened, site: Site) -> None:
    kickoff_id = site.kickoff("bakery", {"TOPIC": "rye", "WAY": "fail", "ERROR": "the oven is cold"})
    site.ended(kickoff_id)
    page = opened(f"/kickoffs/{kickoff_id}")
    expect(page.get_by_text("ConnectionError: the oven is cold").first).to_be_visible()
    expect(page.get_by_role("region", name="Traceback")).to_contain_text("Traceback (most recent call last)")
    page.get_by_role("button", name="Retry").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    expect(page).not_to_have_url(re.compile(kickoff_id))
    expect(page.get_by_role("region", name="Traceback")).to_be_visible()


def test_a_running_one_is_cancelled(opened: Opened, site: Site) -> None:
    kickoff_id = site.kickoff("sleep", {"seconds": 600})
    page = opened(f"/kickoffs/{kickoff_id}")
    expect(page.get_by_role("status").get_by_text("Running")).to_be_visible()
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel it").click()
    expect(page.get_by_role("status").get_by_text("Cancelled")).to_be_visible()


def test_it_is_said_in_words_what_it_waits_for(opened: Opened, site: Site) -> None:
    site.call("/v1/crews/sleep/pause", {})
    kickoff_id = site.kickoff("sleep", {"seconds": 0})
    page = opened(f"/kickoffs/{kickoff_id}")
    expect(page.get_by_text("sleep is paused. It starts when somebody resumes the crew.")).to_be_visible()
    site.call("/v1/crews/sleep/resume", {})
    expect(page.get_by_role("status").get_by_text("Succeeded")).to_be_visible()
    running = [site.kickoff("sleep", {"seconds": 600}) for _ in range(2)]
    waiting = site.kickoff("sleep", {"seconds": 0})
    page.goto(f"/ui/kickoffs/{waiting}")
    expect(page.get_by_text("All 2 slots of sleep are in use.")).to_be_visible()
    for one in running:
        site.call(f"/v1/kickoffs/{one}/cancel", {})
    expect(page.get_by_role("status").get_by_text("Succeeded")).to_be_visible()


def test_its_inputs_are_edited_and_run_again(opened: Opened, site: Site) -> None:
    kickoff_id = site.kickoff("bakery", {"TOPIC": "rye", "LOAVES": 3, "EXTRA": {"a": 1}}, meta={"customer": "9"})
    site.ended(kickoff_id)
    page = opened(f"/kickoffs/{kickoff_id}")
    page.get_by_role("link", name="Edit and run again").click()
    topic = page.get_by_label("TOPIC")
    expect(topic).to_have_value("rye")
    expect(page.get_by_label("LOAVES")).to_have_value("3")
    topic.fill("wheat")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("heading", name="Result")).to_be_visible()
    started = page.url.rsplit("/", 1)[1]
    assert started != kickoff_id
    inputs = site.call(f"/v1/kickoffs/{started}/request")["inputs"]
    assert (inputs["TOPIC"], inputs["LOAVES"], inputs["EXTRA"]) == ("wheat", 3, {"a": 1})
    assert site.call(f"/v1/kickoffs/{started}")["meta"] == {"customer": "9"}


def test_it_is_copied_as_commands(opened: Opened, site: Site) -> None:
    kickoff_id = site.kickoff("echo", {"word": "it's", "n": 2})
    site.ended(kickoff_id)
    page = opened(f"/kickoffs/{kickoff_id}")
    expect(page.get_by_role("heading", name="Inputs")).to_be_visible()
    expect(page.get_by_text("it's", exact=True)).to_be_visible()
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    curl = page.evaluate("navigator.clipboard.readText()")
    assert curl.startswith(f"curl {site.url}/v1/kickoffs ")
    assert site.admin not in curl
    page.get_by_role("button", name="Copy as a command of crewfleet").click()
    page.wait_for_function("navigator.clipboard.readText().then(text => text.startsWith('crewfleet'))")
    command = page.evaluate("navigator.clipboard.readText()")
    assert command == """crewfleet kickoff echo -i 'word=it'\\''s' -i 'n:=2' --follow"""


def test_the_chain_and_the_batch_that_it_belongs_to_are_shown(opened: Opened, site: Site) -> None:
    first = site.kickoff("echo", {}, then=[{"crew": "echo", "inputs": {"draft": "$.result.raw"}}])
    site.ended(first)
    page = opened(f"/kickoffs/{first}")
    chain = page.get_by_role("region", name="Chain")
    expect(chain.get_by_role("listitem")).to_have_count(2)
    expect(chain.get_by_text("Succeeded")).to_have_count(2)
    batch = site.call("/v1/batches", {"crew": "echo", "items": [{}, {}, {}]})["batch_id"]
    page.goto(f"/ui/kickoffs/{batch}-1")
    of_batch = page.get_by_role("region", name="Batch")
    expect(of_batch.get_by_text("3 of 3 have ended.")).to_be_visible()
    of_batch.get_by_role("link", name=re.compile("Succeeded")).click()
    expect(page.locator("tbody tr.link")).to_have_count(3)
