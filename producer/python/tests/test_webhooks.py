"""Webhooks are taken and refused as workers do it: the cases are those of the contract's own tests."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from conftest import ROOT
from crewfleet import InvalidKickoff, Options, request, webhooks

CASES: list[dict[str, Any]] = json.loads((ROOT / "shared/protocol/tests/webhooks.json").read_text())
SCHEMA: Any = json.loads((ROOT / "shared/protocol/schemas/kickoff.request.v1.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: json.dumps(case["fields"])[:60])
def test_a_webhook_is_what_it_may_be_or_is_refused_without_its_secrets(case: dict[str, Any]) -> None:
    options = Options(webhooks=case["fields"])
    assert "hunter2" not in repr(options)
    if "asks" in case:
        made = request.make("echo", {}, None, options, 1 << 20)
        body = json.loads(made.body)
        jsonschema.validate(body, SCHEMA)
        assert {name: body[name] for name in body if name in case["fields"]} == {name: case["fields"][name] for name in case["asks"]}
        return
    with pytest.raises(InvalidKickoff) as refused:
        request.make("echo", {}, None, options, 1 << 20)
    message = str(refused.value)
    assert message.startswith(f"{case['refused']} ") and case["says"] in message and "hunter2" not in message


def test_a_name_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidKickoff, match=r"crewWebhookURL.*crewWebhookUrl"):
        webhooks.checked({"crewWebhookURL": "https://example.org"})
