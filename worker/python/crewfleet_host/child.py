"""A child: serves kickoffs on its own channel, one at a time, until the worker closes it."""

import faulthandler
import os
import queue
import sys
import threading
import time
from typing import Any, NoReturn

from . import process
from .cancel import Cancel
from .ending import end_after_kickoff, end_between_kickoffs
from .frames import Channel, FrameError
from .kickoff import run_kickoff
from .settings import Settings
from .target import Target
from .threads import ThreadCensus
from .workdir import WorkDir
from .workplace import Workplace


def become_child(stdout_fd: int, stderr_fd: int, parent: int) -> None:
    """Makes a fresh fork the head of its own session, that dies with `parent` and writes to these two."""
    process.die_with_parent(parent)
    process.own_session()
    process.prefer_for_oom_kill()
    for fd, output_fd in ((1, stdout_fd), (2, stderr_fd)):
        os.dup2(output_fd, fd)
        os.close(output_fd)


def serve_kickoffs(channel: Channel, target: Target, settings: Settings, workplace: Workplace) -> NoReturn:
    """Says hello, then answers each "kickoff" with "result" or "error", and says "ended" when what it left behind has ended.

    Ends the process after a "kickoff" that says it is the last, after "end", and when the channel ends.
    """
    process.become_subreaper()
    _reseed()
    faulthandler.enable()
    inbox = _Inbox(channel)
    inbox.start()
    channel.send({"type": "hello", "pid": os.getpid()})
    while (frame := inbox.next_kickoff()) is not None:
        began, census = time.monotonic(), ThreadCensus()
        place = WorkDir(frame["work_dir"], frame["kickoff_id"], frame.get("traceparent"), settings, workplace)
        answer = run_kickoff(frame, target, place, settings, channel, inbox.cancel)
        inbox.idle = True
        _send(channel, answer)
        del answer
        grace_s = settings.exit_grace_s
        if frame.get("timeout_s") is not None:
            grace_s = max(0.0, min(grace_s, frame["timeout_s"] - (time.monotonic() - began)))
        if frame.get("last"):
            end_after_kickoff(channel, grace_s)
        end_between_kickoffs(channel, place, census, grace_s)
    end_after_kickoff(channel, settings.exit_grace_s)


def _send(channel: Channel, answer: dict[str, Any]) -> None:
    try:
        channel.send(answer)
    except FrameError as error:
        channel.send(_too_large(answer, error))
    except ConnectionError:  # the inbox sees the end too, and ends this process
        return


class _Inbox(threading.Thread):
    """Reads the channel all the time, so that a cancel, and the worker's end, are seen while a kickoff runs."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(name="crewfleet-inbox", daemon=True)
        self.cancel = Cancel()
        self.idle = True
        self._channel = channel
        self._kickoffs: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def next_kickoff(self) -> dict[str, Any] | None:
        """Waits for the next frame "kickoff"; None when the worker wants no other."""
        return self._kickoffs.get()

    def run(self) -> None:
        try:
            while (frames := self._channel.read()) is not None:
                for frame in frames:
                    self._take(frame)
        except FrameError as error:
            sys.stderr.write(f"crew child {os.getpid()}: {error}; it ends\n")
            self.idle = False
        end_child(0 if self.idle else 1)

    def _take(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "kickoff":
            # Here, not where the kickoff starts: a cancel may follow at once.
            self.cancel.forget()
            self.idle = False
            self._kickoffs.put(frame)
        elif frame["type"] == "cancel":
            self.cancel.ask()
        elif frame["type"] == "end":
            self._kickoffs.put(None)


def end_child(code: int) -> NoReturn:
    """Ends this process and all below it. Not by sys.exit: threads that a crew left would hold the interpreter for long."""
    process.flush_stdio()
    process.kill_descendants()
    os._exit(code)


def _too_large(answer: dict[str, Any], error: FrameError) -> dict[str, Any]:
    small = {key: value for key, value in answer.items() if key not in ("result", "error", "files")}
    usage = (answer.get("result") or answer).get("usage")
    described = {"kind": "result_too_large", "message": f"the crew's result makes {error}", "retryable": False, "detail": None}
    return {**small, "type": "error", "usage": usage, "error": described}


def _reseed() -> None:
    """Forks share numpy's random state; Python's own random module looks after itself."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()
