"""The snippets of the pages are run."""

from __future__ import annotations

import asyncio
import re
import textwrap
from pathlib import Path

import pytest
from conftest import Site
from crewfleet import Fleet

README = Path(__file__).parents[1] / "README.md"


def programs(page: str) -> list[str]:
    """The programs of a page."""
    return re.findall(r"```python\n(.*?)```", README.with_name(page).read_text(), re.DOTALL)


def run(program: str, **names: object) -> None:
    """Runs a program that awaits, with these names in it."""
    scope: dict[str, object] = dict(names)
    exec(f"async def main():\n{textwrap.indent(program, '    ')}", scope)
    main = scope["main"]
    assert callable(main)
    asyncio.run(main())


# The first one of the other page is that of one process.
@pytest.mark.parametrize(("page", "number"), [("README.md", 0), ("FROM_ONE_PROCESS.md", 1)])
def test_the_program_of_a_page_runs(page: str, number: int, site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    # The crew of its own is one that every worker has here.
    program = programs(page)[number].replace('"marketing"', '"echo"').replace("amqp://guest:guest@127.0.0.1:5672/%2f", site.url)
    monkeypatch.setenv("CREWFLEET__BROKER__NAMESPACE", site.namespace)
    run(program)
    assert "a lamp" in capsys.readouterr().out


def test_the_test_of_the_readme_passes() -> None:
    asked: list[object] = []
    run(programs("README.md")[1], Fleet=Fleet, MarketingCrew=asked.append)
    assert asked == [{"PRODUCT_DESCRIPTION": "a lamp"}]


def test_two_lines_change_from_one_process_to_a_fleet() -> None:
    home, fleet = (program.splitlines() for program in programs("FROM_ONE_PROCESS.md"))
    assert len(home) == len(fleet)
    changed = [after for before, after in zip(home, fleet, strict=True) if before != after]
    assert [line.split()[0] for line in changed] == ["from", "crew_instance"]
