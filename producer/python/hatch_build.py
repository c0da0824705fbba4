"""Puts both programs into the wheel: `pip install crewfleet` is all there is to install beside RabbitMQ.

They are built by cargo, in the profile of CREWFLEET_WHEEL_PROFILE (`dist` by default: optimised across crates, stripped), unless
CREWFLEET_BIN_DIR names a folder that has them. The sdist carries the Rust workspace as `rust/`.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROGRAMS = ("crewfleet", "crewfleet-worker")


class Programs(BuildHookInterface):  # type: ignore[type-arg]
    """Builds the programs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before the wheel is written."""
        if version == "editable":
            return
        root = Path(self.root)
        carried = root / "rust"
        workspace = carried if carried.exists() else root.parents[1]
        folder = _programs(workspace)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform(folder)}"
        build_data["shared_scripts"] = {str(folder / name): name for name in PROGRAMS}


def _programs(workspace: Path) -> Path:
    given = os.environ.get("CREWFLEET_BIN_DIR")
    if given is not None:
        return Path(given)
    profile = os.environ.get("CREWFLEET_WHEEL_PROFILE", "dist")
    names = [argument for name in PROGRAMS for argument in ("--bin", name)]
    try:
        subprocess.run(["cargo", "build", "--locked", "--workspace", "--profile", profile, *names], cwd=workspace, check=True)
    except FileNotFoundError:
        raise SystemExit("crewfleet is built from source here, and cargo is missing: install Rust (https://rustup.rs), or use a wheel") from None
    target = Path(os.environ.get("CARGO_TARGET_DIR", workspace / "target"))
    return target / ("debug" if profile == "dev" else profile)


def _platform(folder: Path) -> str:
    """The platform's tag: the newest glibc that a program asks for, as manylinux has it."""
    machine = platform.machine()
    if platform.system() != "Linux":
        raise SystemExit(f"crewfleet runs on Linux; this is {platform.system()}")
    found: set[tuple[int, int]] = set()
    for name in PROGRAMS:
        versions = re.findall(rb"GLIBC_(\d+)\.(\d+)", (folder / name).read_bytes())
        found |= {(int(major), int(minor)) for major, minor in versions}
    major, minor = max(found, default=(2, 17))
    return f"manylinux_{major}_{minor}_{machine}"
