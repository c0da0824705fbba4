"""A crew that needs no CrewAI: it tells of tasks, agents, tools and models as CrewAI's events do.

What it does its inputs say: `WAY` is `fine`, `fail`, `flaky`, `markup`, `file`, `say`, `held` or `none`. A `held` one waits until the file
`GATE` is there.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

MARKUP = '<img src=x onerror="document.title=\'broken\'"><script>document.title="broken"</script>'
MARKDOWN = """# Rye bread sells

A *short* study of **bakeries**, with `code` and a [source](https://example.org/rye).

1. People come early
2. They buy rye

- crust
- crumb

> What is baked today is gone tomorrow.

```python
def bake(loaves):
    return loaves * 2
```

| loaf | price |
|---|---|
| rye | 4.20 |
"""


def tell(kind: str, **data: Any) -> None:
    """Sends an event."""
    os.write(3, (json.dumps({"type": kind, "data": data}) + "\n").encode())


def study(topic: str) -> None:
    """One task of one agent, with a tool and two calls of models."""
    agent, task = f"Researcher of {topic}", "research"
    tell("task_started", task=task, agent=agent)
    tell("agent_execution_started", task=task, agent=agent)
    for number, (model, tokens) in enumerate([("gpt-5-mini", 1200), ("claude-haiku-5", 640)]):
        call = f"{task}-{number}"
        tell("llm_call_started", model=model, call_id=call, agent=agent, task=task)
        time.sleep(0.03)
        usage = {"prompt_tokens": tokens - 200, "completion_tokens": 200, "total_tokens": tokens}
        tell("llm_call_completed", model=model, call_id=call, agent=agent, task=task, usage=usage, duration_s=0.03)
        if not number:
            tell("tool_usage_started", tool="search", agent=agent, task=task)
            time.sleep(0.02)
            tell("tool_usage_finished", tool="search", agent=agent, task=task, duration_s=0.02)
    tell("agent_execution_completed", task=task, agent=agent, duration_s=0.1)
    tell("task_completed", task=task, agent=agent, duration_s=0.1)


def run(kickoff: dict[str, Any]) -> dict[str, Any]:
    """Does what the inputs say."""
    inputs = kickoff["inputs"]
    way, topic = inputs.get("WAY", "fine"), inputs.get("TOPIC", "bread")
    sys.stderr.write(f"the way is {way}\n")
    tell("log", stream="stdout", line=f"looking into {topic}")
    if way == "say":
        return {"raw": inputs["ERROR"]}
    if way == "none":
        return {"raw": "nothing to say"}
    study(topic)
    if way == "held":
        tell("task_started", task="write", agent="Writer")
        while not Path(inputs["GATE"]).exists():
            time.sleep(0.02)
        tell("task_completed", task="write", agent="Writer")
    if way == "file":
        Path("recipes").mkdir()
        Path("recipes", f"{topic}.md").write_text(f"a recipe for {topic}\n")
    if way == "markup":
        tell("log", stream="stdout", line=MARKUP)
    if way == "fail" or (way == "flaky" and kickoff["attempt"] < 2):
        try:
            raise ConnectionError(inputs.get("ERROR", "the model answered with status 503"))
        except ConnectionError as error:
            trace = traceback.format_exc()
            detail = {"class": "ConnectionError", "traceback": trace}
            return {"error": {"kind": "exception", "message": f"ConnectionError: {error}", "retryable": way == "flaky", "detail": detail}}
    raw = MARKUP if way == "markup" else MARKDOWN
    usage = {"prompt_tokens": 1440, "completion_tokens": 400, "total_tokens": 1840, "successful_requests": 2}
    tasks = [{"name": "research", "agent": f"Researcher of {topic}", "raw": raw}]
    return {"raw": raw, "json": {"title": "Rye", "loaves": 2}, "tasks": tasks, "usage": usage}


if __name__ == "__main__":
    print(json.dumps(run(json.load(sys.stdin))))
