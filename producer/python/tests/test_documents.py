"""The snippets of the pages are run."""

from __future__ import annotations

import asyncio
import re
import textwrap
from pathlib import Path

import pytest
from conftest import Site

README = Path(__file__).parents[1] / "README.md"


def test_the_readme_s_program_runs(site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found is not None
    # The crew of its own is one that every worker has here.
    program = found[1].replace('"marketing"', '"echo"').replace("amqp://guest:guest@127.0.0.1:5672/%2f", site.url)
    monkeypatch.setenv("CREWFLEET__BROKER__NAMESPACE", site.namespace)
    scope: dict[str, object] = {}
    exec(f"async def main():\n{textwrap.indent(program, '    ')}", scope)
    main = scope["main"]
    assert callable(main)
    asyncio.run(main())
    assert "a lamp" in capsys.readouterr().out
