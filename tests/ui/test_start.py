"""A kickoff is started from a form made of the crew's own inputs, and watched."""

from __future__ import annotations

from conftest import Opened
from environment import Site
from playwright.sync_api import expect


def test_a_form_is_made_of_the_schema_and_what_is_started_is_watched(opened: Opened, site: Site) -> None:
    page = opened("/start")
    page.get_by_label("Crew").select_option("bakery")
    expect(page).to_have_url(f"{site.url}/ui/start?crew=bakery")
    topic, loaves = page.get_by_label("TOPIC"), page.get_by_label("LOAVES")
    expect(page.get_by_text("What to look into.")).to_be_visible()
    expect(page.get_by_label("WAY")).to_have_value('"fine"')
    loaves.fill("many")
    page.get_by_role("button", name="Start").click()
    # It says what is wrong beside each field, and goes to the first.
    expect(topic).to_be_focused()
    expect(page.get_by_text("It is needed.")).to_be_visible()
    expect(page.get_by_text("It must be a number.")).to_be_visible()
    topic.fill("rye")
    loaves.fill("100")
    page.get_by_label("PLACES").fill('["Berlin"]')
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("It must be 99 or less.")).to_be_visible()
    loaves.fill("12")
    page.get_by_text("Meta and time limit").click()
    page.get_by_label("Meta, a JSON object").fill('{"customer": "c-1"}')
    page.get_by_label("Time limit in seconds").fill("30")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("heading", name="Result")).to_be_visible()
    kickoff_id = page.url.rsplit("/", 1)[1]
    request = site.call(f"/v1/kickoffs/{kickoff_id}/request")
    assert request["inputs"] == {"TOPIC": "rye", "WAY": "fine", "LOAVES": 12, "ORGANIC": False, "PLACES": ["Berlin"]}
    assert request["timeout_s"] == 30
    assert site.call(f"/v1/kickoffs/{kickoff_id}")["meta"] == {"customer": "c-1"}


def test_a_crew_that_tells_no_inputs_takes_them_as_json(opened: Opened, site: Site) -> None:
    page = opened("/start?crew=echo")
    inputs = page.get_by_label("A JSON object", exact=True)
    inputs.fill("[1]")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("It must be a JSON object")).to_be_visible()
    inputs.fill('{"a": 1}')
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("heading", name="Result")).to_be_visible()
