"""The modules of CrewAI, each only where it is imported and this version has it."""

import importlib
import sys
from typing import Any


def module(name: str) -> Any:
    """A module of crewai's, None where crewai is not imported or has no such module."""
    if "crewai" not in sys.modules:
        return None
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
