"""The fixture `crewfleet_testing`, for pytest: `fleet = crewfleet_testing(crews={"marketing": MarketingCrew})`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from .testing import TestingFleet


@pytest.fixture
def crewfleet_testing() -> Iterator[Callable[[Mapping[str, Any]], TestingFleet]]:
    """Makes fleets that run crews in this process, and closes them after the test."""
    made: list[TestingFleet] = []

    def make(crews: Mapping[str, Any]) -> TestingFleet:
        made.append(TestingFleet(crews))
        return made[-1]

    yield make
    for fleet in made:
        fleet.close()
