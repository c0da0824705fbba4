"""What forks may share: a case for each entry of the table, opened while a target is imported or its crew is built."""

import os
import platform
import socket
import subprocess
import sys
import tempfile
import unittest
from collections import Counter
from pathlib import Path
from unittest import mock

from fake_worker import CREWS, FakeWorker, Fifo

sys.path.insert(0, str(Path(__file__).parent.parent))
from crewfleet_host import descriptors, sharing

# Kind → what an import does, `place` being a folder. What is not shared must be named in the reasons as it is in the table.
DESCRIPTORS = {
    "connection": "a, b = socket.socketpair()",
    "unconnected socket": "a = socket.socket()",
    "listening socket": "a = socket.create_server(('127.0.0.1', 0))",
    "datagram socket": "a = socket.socket(type=socket.SOCK_DGRAM); a.connect(('127.0.0.1', 9))",
    "datagram socket without an address": "a = socket.socket(type=socket.SOCK_DGRAM), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)",
    "other socket": "a = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
    "pipe": "a = os.pipe()",
    "eventpoll": "a = select.epoll(); a.register(0 if os.isatty(0) else os.pipe()[0], select.EPOLLIN)",
    "eventfd": "a = libc.eventfd(0, 0)",
    "timerfd": "a = libc.timerfd_create(1, 0)",
    "signalfd": "mask = (ctypes.c_ulong * 16)(); a = libc.signalfd(-1, mask, 0)",
    "inotify": "a = libc.inotify_init1(0)",
    "pidfd": "a = os.pidfd_open(os.getpid())",
    "database": "a = sqlite3.connect(place + '/x.db'); a.execute('create table t (x)')",
    "locked file": "import fcntl; a = open(place + '/lock', 'w'); fcntl.flock(a, fcntl.LOCK_EX)",
    "file read and written": "a = open(place + '/both', 'w+')",
    "memory file": "a = os.memfd_create('kept')",
    "file being read": "a = open(place + '/given')",
    "file being written": "a = open(place + '/log', 'a')",
    "mapped file": "import mmap; f = open(place + '/given'); a = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ); f.close()",
    "directory": "a = os.open(place, os.O_RDONLY), os.open(place + '/given', os.O_PATH)",
    "harmless device": "a = open('/dev/urandom', 'rb')",
    "terminal": "a = os.openpty()",
    "device": "a = os.open('/dev/fuse', os.O_RDWR) if os.path.exists('/dev/fuse') else None",
}
# Kind → the system call that makes one, by its number on all machines or on these, and its arguments. A kernel, or a sandbox, may
# refuse it.
SYSTEM_CALLS = {
    "fanotify": ({"x86_64": 300, "aarch64": 262}, "0, os.O_RDONLY"),
    "io_uring": ({"x86_64": 425, "aarch64": 425}, "2, ctypes.create_string_buffer(120)"),
    "userfaultfd": ({"x86_64": 323, "aarch64": 282}, "1"),
    # A software event (1) that counts nothing (9), of this thread, on any processor.
    "perf_event": ({"x86_64": 298, "aarch64": 241}, "ctypes.create_string_buffer(struct.pack('=IIQ', 1, 64, 9), 64), 0, -1, -1, 0"),
}
# Kind of memory → ways to it.
MAPPINGS = {
    "semaphore": ("import multiprocessing; a = multiprocessing.Lock()", "from multiprocessing import get_context; a = get_context('spawn').Semaphore(2)"),
    "shared memory": (
        "import mmap; a = mmap.mmap(-1, 4096)",
        "import multiprocessing; a = multiprocessing.Value('i', lock=False)",
        "import mmap; f = os.memfd_create('kept'); os.truncate(f, 1); a = mmap.mmap(f, 1); os.close(f)",
        "from multiprocessing.shared_memory import SharedMemory; a = SharedMemory(create=True, size=9); a.unlink(); os.close(a._fd); a._fd = -1",
    ),
    "mapped file": (
        "import mmap; f = open(place + '/both', 'wb+'); f.truncate(9); a = mmap.mmap(f.fileno(), 9); f.close()",
        "import mmap; f = open(place + '/both', 'wb+'); f.truncate(9); a = mmap.mmap(f.fileno(), 9)",
    ),
}
# What an import may leave that needs a closer look than its kind, and how kickoffs then start.
LIKENESSES = {
    "a database that is empty yet": ("a = sqlite3.connect(place + '/y.sqlite3'); a.execute('begin exclusive')", "spawn"),
    "a database whose name says nothing": ("a = sqlite3.connect(place + '/cache'); a.execute('create table t (x)'); a.commit()", "spawn"),
    "a database that is closed again": ("a = sqlite3.connect(place + '/z.db'); a.execute('create table t (x)'); a.close()", "fork"),
    "a database in memory": ("a = sqlite3.connect(':memory:'); a.execute('create table t (x)')", "fork"),
    "a connection that is closed again": ("a, b = socket.socketpair(); a.close(); b.close()", "fork"),
    "an event loop that waits for nothing": ("import asyncio; a = asyncio.new_event_loop()", "fork"),
    "an event loop that ran": ("import asyncio; a = asyncio.new_event_loop(); a.run_until_complete(asyncio.sleep(0))", "fork"),
    "an event loop that is closed": ("import asyncio; asyncio.run(asyncio.sleep(0))", "fork"),
    "an event loop with a reader": ("import asyncio; a = asyncio.new_event_loop(); b = os.pipe(); a.add_reader(b[0], print)", "spawn"),
    "an idle worker of an executor": ("from concurrent.futures import ThreadPoolExecutor; a = ThreadPoolExecutor(1); a.submit(int).result()", "spawn"),
    "an executor that was never used": ("from concurrent.futures import ThreadPoolExecutor; a = ThreadPoolExecutor(1)", "fork"),
    "a thread that has ended": ("import threading; a = threading.Thread(target=int); a.start(); a.join()", "fork"),
    "a child process behind pipes": ("import subprocess; a = subprocess.Popen(['cat'], stdin=-1, stdout=-1)", "spawn"),
    "memory that is let go again": ("import mmap; a = mmap.mmap(-1, 4096); a.close()", "fork"),
    "a lock that is let go again": ("import multiprocessing; a = multiprocessing.Lock(); del a", "fork"),
    "a file's memory of one's own": ("import mmap; f = open(place + '/given'); a = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY); f.close()", "fork"),
    "a copy of stderr": ("a = os.dup(2)", "fork"),
}
HEAD = "import ctypes, os, select, socket, sqlite3, struct\nlibc = ctypes.CDLL(None)\nplace = {place!r}\n"
CREW = """
class Crew:
    def kickoff(self, inputs):
        {body}
        return {{"pid": os.getpid(), "host": os.getppid(), "said": said}}
"""


class ForksTest(unittest.TestCase):
    """One fork server without CrewAI; a module for each case."""

    def setUp(self) -> None:
        self.worker = FakeWorker(with_crewai=False)
        self.addCleanup(self.worker.close)
        place = tempfile.TemporaryDirectory(prefix="crewfleet-forks-")
        self.addCleanup(place.cleanup)
        self.place = place.name
        Path(self.place, "given").write_text("one\ntwo\nthree\n", encoding="ascii")
        self.modules = 0

    def target(self, source: str, body: str = "said = None", build: str = "") -> dict:
        """Settings' keys of a new module that does `source` when it is imported, `build` when its crew is built, `body` when kicked off."""
        self.modules += 1
        name = f"case_{self.modules}"
        made = f"def make():\n    {build or 'pass'}\n    return Crew()\n"
        Path(self.place, f"{name}.py").write_text(HEAD.format(place=self.place) + source + CREW.format(body=body) + made, encoding="utf-8")
        return {"target": f"{name}:make", "path": [self.place, CREWS]}

    def check(self, target: str, **settings: object) -> dict:
        checked = self.worker.check(target, **settings)
        self.assertTrue(checked["ok"], checked)
        return checked

    def test_every_kind_of_descriptor(self) -> None:
        self.assertEqual({*DESCRIPTORS, *SYSTEM_CALLS, "unknown"}, set(sharing.DESCRIPTORS))
        for kind, source in DESCRIPTORS.items():
            if kind == "device" and not os.access("/dev/fuse", os.R_OK | os.W_OK):
                continue
            with self.subTest(kind):
                rule = sharing.DESCRIPTORS[kind]
                checked = self.check(**self.target(source))
                self.assertEqual(checked["isolation"], "fork" if rule.shared else "spawn", checked["isolation_reasons"])
                self.assertEqual(any(reason.endswith(rule.reason) for reason in checked["isolation_reasons"]), not rule.shared, checked)
                self.assertEqual(any(rule.reason in note for note in checked["notes"]), kind == "file being written", checked["notes"])

    def test_kinds_that_a_kernel_may_refuse(self) -> None:
        for kind, (numbers, arguments) in SYSTEM_CALLS.items():
            with self.subTest(kind):
                number = numbers.get(platform.machine())
                call = f"a = libc.syscall({number}, {arguments})"
                made = subprocess.run(
                    [sys.executable, "-c", f"{HEAD.format(place='')}{call}\nassert a >= 0, os.strerror(ctypes.get_errno())"],
                    check=False,
                    capture_output=True,
                    text=True,
                )
                if number is None or made.returncode != 0:
                    self.skipTest(f"no {kind} here: {(made.stderr.splitlines() or [platform.machine()])[-1]}")
                reasons = self.check(**self.target(call))["isolation_reasons"]
                self.assertIn(f"importing the target left a descriptor of {kind}, because {sharing.DESCRIPTORS[kind].reason}", reasons)

    def test_what_linux_may_invent_yet_is_unknown(self) -> None:
        null = os.open(os.devnull, os.O_RDONLY)
        self.addCleanup(os.close, null)
        # What fstat() says of anonymous inodes: no type at all.
        with mock.patch("os.fstat", return_value=mock.Mock(st_mode=0o600)):
            for link in ("anon_inode:[made_up]", "anon_inode:made_up", "/of/no/type"):
                found = descriptors.describe(null, f"{null} {link}")
                assert found is not None
                self.assertEqual((found.kind, found.what), ("unknown", f"something of no known kind ({link})"))
                findings = sharing.Findings()
                self.assertFalse(sharing._judge(found, findings))
                self.assertEqual(len(findings.unshareable), 1)

    def test_memory_that_is_written_together(self) -> None:
        self.assertEqual(MAPPINGS.keys(), sharing.MAPPINGS.keys())
        for kind, sources in MAPPINGS.items():
            for source in sources:
                with self.subTest(source):
                    checked = self.check(**self.target(source))
                    self.assertEqual(checked["isolation"], "spawn", checked)
                    self.assertTrue(any(reason.endswith(sharing.MAPPINGS[kind].reason) for reason in checked["isolation_reasons"]), checked)
        named = self.check(**self.target(MAPPINGS["mapped file"][0]))["isolation_reasons"]
        self.assertEqual(len(named), 1)
        self.assertIn(f"left the file {self.place}/both, which is mapped for writing, because", named[0])

    def test_a_lock_that_a_build_makes_is_made_by_each_kickoff(self) -> None:
        settings = self.target("kept = []", "kept[-1].acquire(); said = 'in'", "import multiprocessing; kept.append(multiprocessing.Lock())")
        host = self.worker.start_host(**settings)
        self.assertEqual(host.first["isolation"], "fork")
        self.assertIn("building the crew leaves the semaphore", host.first["isolation_reasons"][0])
        # Each keeps its lock for ever.
        children = [host.start_child() for _ in range(2)]
        self.assertEqual([child.run({})["result"]["json"]["said"] for child in children], ["in", "in"])

    def test_what_a_closer_look_shows(self) -> None:
        for name, (source, isolation) in LIKENESSES.items():
            with self.subTest(name):
                checked = self.check(**self.target(source))
                self.assertEqual(checked["isolation"], isolation, checked["isolation_reasons"])

    def test_host_and_check_agree_and_the_children_serve(self) -> None:
        for source, isolation in (("a, b = socket.socketpair()", "spawn"), ("", "fork")):
            with self.subTest(isolation):
                settings = self.target(source)
                checked = self.check(**settings)
                host = self.worker.start_host(**settings)
                told = [(frame["isolation"], frame["isolation_reasons"]) for frame in (checked, host.first)]
                self.assertEqual(told[0], told[1])
                self.assertEqual(told[0][0], isolation)
                child = host.start_child()
                self.assertEqual(child.run({})["result"]["json"]["pid"], child.pid)
                child.finish()

    def test_reasons_name_the_thing(self) -> None:
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        address = server.getsockname()
        reasons = self.check(**self.target(f"a = socket.create_connection({address!r})"))["isolation_reasons"]
        why = sharing.DESCRIPTORS["connection"].reason
        self.assertEqual(reasons, [f"importing the target left a TCP connection to 127.0.0.1:{address[1]}, because {why}"])
        self.assertEqual(self.check(**self.target(""))["isolation_reasons"], [])
        self.assertEqual(self.check(**self.target(""), isolation="spawn")["isolation_reasons"], ['isolation = "spawn" is configured'])

    def test_a_host_that_spawns_imports_nothing(self) -> None:
        mark = os.path.join(self.place, "imported")
        host = self.worker.start_host(**self.target(f"open({mark!r}, 'a').write('x')"), isolation="spawn")
        self.assertEqual(host.first["isolation"], "spawn")
        self.assertFalse(os.path.exists(mark))
        host.start_child().finish()
        self.assertEqual(Path(mark).read_text(encoding="ascii"), "x")

    def test_what_a_build_opens_is_opened_by_each_kickoff(self) -> None:
        settings = self.target(
            "kept = []", "said = kept[-1][0].fileno(), os.readlink(f'/proc/self/fd/{kept[-1][0].fileno()}')", "kept.append(socket.socketpair())"
        )
        checked = self.check(**settings)
        self.assertEqual(checked["isolation"], "fork")
        self.assertTrue(all("building the crew leaves a Unix connection" in reason for reason in checked["isolation_reasons"]), checked)
        host = self.worker.start_host(**settings)
        self.assertEqual((host.first["isolation"], host.first["isolation_reasons"]), ("fork", checked["isolation_reasons"]))
        children = [host.start_child() for _ in range(2)]
        said = [child.run({})["result"]["json"] for child in children]
        self.assertNotEqual(said[0]["said"][1], said[1]["said"][1])
        self.assertEqual({answer["host"] for answer in said}, {host.pid})

    def test_what_a_build_lets_go_of_is_no_matter(self) -> None:
        settings = self.target("", build="a, b = socket.socketpair()")
        self.assertEqual((self.check(**settings)["isolation_reasons"], self.worker.start_host(**settings).first["isolation_reasons"]), ([], []))

    def test_each_fork_reads_a_file_from_where_the_import_stood(self) -> None:
        host = self.worker.start_host(
            **self.target("a = open(place + '/given', 'rb', buffering=0); first = a.readline()", "said = [first.decode(), *map(bytes.decode, a)]")
        )
        self.assertEqual(host.first["isolation"], "fork")
        children = [host.start_child() for _ in range(3)]
        self.assertEqual([child.run({})["result"]["json"]["said"] for child in children], [["one\n", "two\n", "three\n"]] * 3)

    def test_each_fork_has_an_event_loop_of_its_own(self) -> None:
        fifos = [Fifo(self.place, f"loop-{number}") for number in range(3)]
        body = (
            "import asyncio, threading; os.set_blocking(0, True)\n"
            "        async def wait(): return await loop.run_in_executor(None, lambda: open(inputs['fifo']).read())\n"
            "        said = loop.run_until_complete(wait())"
        )
        host = self.worker.start_host(**self.target("import asyncio; loop = asyncio.new_event_loop(); loop.run_until_complete(asyncio.sleep(0))", body))
        self.assertEqual(host.first["isolation"], "fork")
        children = [host.start_child() for _ in fifos]
        for child, fifo in zip(children, fifos, strict=True):
            child.kickoff({"fifo": fifo.path})
        for number in (2, 0, 1):  # each is woken by its own executor, whatever the others do
            fifos[number].release()
            self.assertEqual(children[number].peer.expect("result")["result"]["json"]["said"], "go")

    def test_lines_of_forks_follow_one_another_in_a_log(self) -> None:
        host = self.worker.start_host(
            **self.target("a = open(place + '/lines', 'w', buffering=1)", "said = [a.write(f'{os.getpid()} {n}\\n') for n in range(50)]")
        )
        self.assertIn("stays open for writing", host.first["notes"][0])
        children = [host.start_child() for _ in range(3)]
        for child in children:
            child.kickoff({})
        for child in children:
            child.peer.expect("result")
        lines = Path(self.place, "lines").read_text(encoding="ascii").splitlines()
        self.assertEqual(sorted(Counter(line.split()[0] for line in lines).values()), [50, 50, 50])

    def test_a_listening_socket_serves_all_forks(self) -> None:
        host = self.worker.start_host(
            **self.target(
                "a = socket.create_server(('127.0.0.1', 0))",
                "c = socket.create_connection(a.getsockname()); s, _ = a.accept(); c.sendall(b'x'); said = s.recv(1).decode()",
            )
        )
        self.assertEqual(host.first["isolation"], "fork")
        self.assertEqual([host.start_child().run({})["result"]["json"]["said"] for _ in range(2)], ["x", "x"])


if __name__ == "__main__":
    unittest.main()
