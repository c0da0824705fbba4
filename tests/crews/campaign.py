"""The campaign's crew in Python: writes down each execution, then does what its inputs order.

Inputs: nonce and steps (returned), work_ms, and acts, of which the attempt of that number counts, the last one for all further
attempts. The journal's file, the worker's id and what makes a time of the monotonic clock are in the environment.
"""

import json
import os
import select
import signal
import time


class CampaignCrew:
    """Anything with a kickoff method is a crew; this one costs nothing but its process."""

    def kickoff(self, inputs: dict) -> dict:
        kickoff_id, attempt = os.environ["CREWFLEET_KICKOFF_ID"], _attempt()
        run = f"{os.environ['CAMPAIGN_WORKER']}-{os.getpid()}-{_now()}"
        _write(what="start", run=run, id=kickoff_id, attempt=attempt, redrive=0, pid=os.getpid(), worker=os.environ["CAMPAIGN_WORKER"], nonce=inputs["nonce"])
        how = "stopped"
        try:
            _sleep(inputs["work_ms"] / 1000)
            act = inputs["acts"][min(attempt, len(inputs["acts"])) - 1]
            while act == "hang":
                _sleep(60)
            how = "acted"
        finally:
            _write(what="end", run=run, how=how)
        if act == "fail_for_now":
            raise ConnectionError("as ordered")
        if act == "fail":
            raise ValueError("as ordered")
        if act == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        return {"nonce": inputs["nonce"], "steps": inputs.get("steps", [])}


def _attempt() -> int:
    """The kickoff's own folder is named <id>-<attempt>-<a number>. CrewAI's storage lies in it."""
    return int(os.path.basename(os.path.dirname(os.environ["CREWAI_STORAGE_DIR"])).rsplit("-", 2)[1])


def _now() -> int:
    """By the clock that all processes of a campaign share, also those whose own clock is wrong."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) + int(os.environ["CAMPAIGN_CLOCK"])


def _sleep(seconds: float) -> None:
    """As time.sleep, which libfaketime lets fail where it leaves the monotonic clock alone: that sleeps until a moment of it."""
    select.select([], [], [], seconds)


def _write(**line: object) -> None:
    """One write a line: the children of a worker share the file."""
    journal = os.open(os.environ["CAMPAIGN_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(journal, json.dumps({"t": _now(), **line}).encode() + b"\n")
    finally:
        os.close(journal)
