"""What forks of one process may share, and why: the table, and the look at what an import or a build left in this process.

A fork inherits every open file description and no thread but the one that forks. Two forks that use one connection read each
other's answers; a lock that another thread held at the fork stays locked for ever. So whatever is not known to be safe counts as
unsafe. `tests/test_forks.py` holds a case for each entry.
"""

import threading
from collections.abc import Callable, Set
from dataclasses import dataclass, field

from . import renewal
from .descriptors import Descriptor, describe, identities
from .mappings import written_together
from .threads import Found, extra_threads


@dataclass(frozen=True)
class Rule:
    """Whether forks may share something; `reason` is a clause that follows "because"."""

    shared: bool
    reason: str


# By what the descriptor is. One that is not here is not shared.
DESCRIPTORS: dict[str, Rule] = {
    "connection": Rule(False, "forks would read each other's answers from it"),
    "unconnected socket": Rule(False, "the fork that connects it first connects it for all"),
    "listening socket": Rule(True, "the kernel hands each connection to one process, and a second interpreter could not bind the address"),
    "datagram socket": Rule(False, "an answer to it reaches whichever fork reads first"),
    "datagram socket without an address": Rule(True, "nobody can send an answer to it, and datagrams do not mix"),
    "other socket": Rule(False, "forks would read each other's messages from it"),
    "pipe": Rule(False, "forks would read each other's answers from it, or wake each other"),
    "eventpoll": Rule(False, "forks would add to, and be woken by, one set of events (an event loop owns one)"),
    "eventfd": Rule(False, "forks would take each other's wake-ups"),
    "timerfd": Rule(False, "forks would take each other's ticks"),
    "signalfd": Rule(False, "forks would change each other's signals"),
    "inotify": Rule(False, "forks would take each other's notices of changed files"),
    "fanotify": Rule(False, "forks would take each other's notices of changed files"),
    "io_uring": Rule(False, "forks would complete each other's requests"),
    "userfaultfd": Rule(False, "it serves the memory of the process that made it"),
    "perf_event": Rule(False, "it measures the process that made it"),
    "pidfd": Rule(True, "it only refers to a process"),
    "database": Rule(False, "a database's locks belong to the process that took them, and SQLite forbids a connection to cross a fork"),
    "locked file": Rule(False, "a lock belongs to one process, or lets all forks in at once"),
    "file read and written": Rule(False, "forks would move each other's position in it"),
    "memory file": Rule(False, "what one kickoff writes to it, the others read"),
    "file being read": Rule(True, "each fork opens it for itself, at the same position"),
    "file being written": Rule(True, "what kickoffs write at once is appended one after another, as in a log"),
    "mapped file": Rule(True, "what is written through its memory is judged by that"),
    "directory": Rule(True, "it only names a place"),
    "harmless device": Rule(True, "it keeps no state"),
    "terminal": Rule(False, "forks would read each other's keys"),
    "device": Rule(False, "a driver's state belongs to the process that opened it (CUDA does not work after a fork)"),
    "unknown": Rule(False, "nobody knows what it is"),
}

# By what the memory is that can be written, whether or not its file is still open.
MAPPINGS: dict[str, Rule] = {
    "semaphore": Rule(False, "a kickoff that is killed while it holds it would lock all others out"),
    "shared memory": Rule(False, "what one kickoff writes to it, the others read"),
    "mapped file": Rule(False, "what one kickoff writes to it, the others read"),
}

# By what the thread is, as `threads.py` finds out.
THREADS: dict[str, Rule] = {
    "jemalloc": Rule(True, "jemalloc stops its background thread around a fork, and works without it in the child"),
    "lancedb": Rule(True, "LanceDB starts its event loop anew in each fork"),
    "opentelemetry": Rule(True, "OpenTelemetry starts its batch exporters anew in each fork, and they open nothing until there is something to export"),
    "crewai events": Rule(False, "CrewAI's events would wait in a fork for a thread that is not there"),
    "stops at a fork": Rule(True, "its library stops it around a fork and starts it again when it is needed (OpenBLAS)"),
    "unknown": Rule(False, "a fork has no such thread, and keeps the locks that it held"),
}


@dataclass
class Findings:
    """What is in this process that was not there before: clauses that name it, and what to do after a fork.

    `of_crewai`: those of `unshareable` that CrewAI makes for every crew and no user asked for. `lives_on`: there are threads that forks may do without, and that may still open something here.
    """

    unshareable: list[str] = field(default_factory=list)
    of_crewai: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lives_on: bool = False
    renew: list[Callable[[], None]] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether forks may share all of it."""
        return not self.unshareable

    @property
    def told(self) -> list[str]:
        """`unshareable` without what is CrewAI's own."""
        return [thing for thing in self.unshareable if thing not in self.of_crewai]


class Census:
    """Remembers what was open, to say later what was opened since."""

    def __init__(self) -> None:
        self._before = identities()
        self._mapped_before = set(written_together())
        # Copies of these are known too; in a child they lead to the worker's log, and to no kickoff.
        self._standard = {_place(self._before[fd]) for fd in (0, 1, 2) if fd in self._before}

    def forget_news(self) -> None:
        """Takes what is open now as known."""
        self._before.update(identities())
        self._mapped_before.update(written_together())

    def has_news(self, ignore: Set[int] = frozenset()) -> bool:
        """Whether anything is open that was not before, besides `ignore`; quick, for a look before each fork, so memory is not looked at."""
        return not self._new().keys() <= ignore

    def look(self, stop_threads: Callable[[], object] | None = None, ignore: Set[int] = frozenset()) -> Findings:
        """What is there that was not, besides the fds `ignore`. `stop_threads` makes and ends a fork: what that stops is in no danger."""
        findings = Findings()
        for found in self._threads(stop_threads):
            findings.lives_on = True
            if not THREADS[found.kind].shared:
                findings.unshareable.append(f"the thread {found.name}, because {THREADS[found.kind].reason}")
                findings.of_crewai += findings.unshareable[-1:] if found.kind == "crewai events" else []
        new = {fd: identity for fd, identity in self._new().items() if fd not in ignore}
        renewed: set[int] = set()
        if any(identity.endswith("[eventpoll]") for identity in new.values()):
            renewed, findings.renew = renewal.of_event_loops()
        told: set[str] = set()
        for fd, identity in new.items():
            descriptor = None if fd in renewed else describe(fd, identity)
            if descriptor is not None and not _judge(descriptor, findings):
                told.add(_place(identity))
        for mapped, mapping in written_together().items():
            # An open database maps memory, too, which needs no reason of its own.
            if mapped not in self._mapped_before and mapping.place not in told:
                findings.unshareable.append(f"{mapping.what}, because {MAPPINGS[mapping.kind].reason}")
        return findings

    def _new(self) -> dict[int, str]:
        before = set(self._before.values())
        return {fd: identity for fd, identity in identities().items() if identity not in before and _place(identity) not in self._standard}

    @staticmethod
    def _threads(stop_threads: Callable[[], object] | None) -> list[Found]:
        found = extra_threads()
        native = any(thread.kind == "unknown" and thread.native for thread in found)
        if native and stop_threads is not None and threading.active_count() == sum(not thread.native for thread in found) + 1:
            stop_threads()
            found = extra_threads()
        return found


def _place(identity: str) -> str:
    return identity.split(" ", 1)[-1]


def _judge(descriptor: Descriptor, findings: Findings) -> bool:
    """Whether forks may share it; `findings` hold what is to be said and done."""
    rule = DESCRIPTORS.get(descriptor.kind, DESCRIPTORS["unknown"])
    if not rule.shared:
        findings.unshareable.append(f"{descriptor.what}, because {rule.reason}")
    elif descriptor.kind == "file being read":
        findings.renew.append(lambda: renewal.reopen(descriptor.fd))
    elif descriptor.kind == "file being written":
        findings.notes.append(f"all kickoffs share {descriptor.what}, which stays open for writing: {rule.reason}")
    return rule.shared
