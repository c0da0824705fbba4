"""The snippets of the pages are run."""

from __future__ import annotations

import asyncio
import re
import textwrap
from pathlib import Path

import pytest
from conftest import Site

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize("page", ["README.md", "FROM_ONE_PROCESS.md"])
def test_the_program_of_a_page_runs(page: str, site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    # The first of the other page is that of one process.
    program = re.findall(r"```python\n(.*?)```", README.with_name(page).read_text(), re.DOTALL)[-1]
    # The crew of its own is one that every worker has here.
    program = program.replace('"marketing"', '"echo"').replace("amqp://guest:guest@127.0.0.1:5672/%2f", site.url)
    monkeypatch.setenv("CREWFLEET__BROKER__NAMESPACE", site.namespace)
    scope: dict[str, object] = {}
    exec(f"async def main():\n{textwrap.indent(program, '    ')}", scope)
    main = scope["main"]
    assert callable(main)
    asyncio.run(main())
    assert "a lamp" in capsys.readouterr().out


def test_two_lines_change_from_one_process_to_a_fleet() -> None:
    page = README.with_name("FROM_ONE_PROCESS.md").read_text()
    home, fleet = (block.splitlines() for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    assert len(home) == len(fleet)
    changed = [after for before, after in zip(home, fleet, strict=True) if before != after]
    assert [line.split()[0] for line in changed] == ["from", "crew_instance"]
