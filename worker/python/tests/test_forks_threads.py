"""Threads of libraries that forks may do without, each used in forks; and those of others, which lead to fresh interpreters."""

import os
import sys
import tempfile
import unittest
from pathlib import Path

from fake_worker import FakeHost, shared_worker
from shortage import Short

sys.path.insert(0, str(Path(__file__).parent.parent))
from crewfleet_host import sharing

# Kind → what an import does, and what a kickoff then does with it, to `said`.
SAFE = {
    "jemalloc": ("import pyarrow", "said = pyarrow.array(range(200_000)).take(list(range(0, 200_000, 7))).to_pylist()[-1]", 199_997),
    "stops at a fork": (
        "import numpy; a = numpy.ones((600, 600)) @ numpy.ones((600, 600))",
        "said = float((numpy.ones((600, 600)) @ numpy.ones((600, 600))).max())",
        600.0,
    ),
    "lancedb": (
        "import lancedb",
        "db = lancedb.connect(inputs['place']); db.create_table('t', [{'vector': [1.0, 2.0], 'n': 7}])\n"
        "        said = db.open_table('t').search([1.0, 2.0]).limit(1).to_list()[0]['n']",
        7,
    ),
    "opentelemetry": (
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult\n"
        "class Kept(SpanExporter):\n"
        "    seen = []\n"
        "    def export(self, spans):\n"
        "        self.seen += [span.name for span in spans]\n"
        "        return SpanExportResult.SUCCESS\n"
        "provider = TracerProvider(); batches = BatchSpanProcessor(Kept()); provider.add_span_processor(batches)",
        "provider.get_tracer('t').start_span('mine').end(); provider.force_flush(); import threading\n"
        "        said = [Kept.seen, any(t.name.startswith('OtelBatch') and t.is_alive() for t in threading.enumerate())]",
        [["mine"], True],
    ),
}
UNSAFE = {
    "unknown": "import threading; threading.Thread(target=threading.Event().wait, name='jemalloc_bg_thd', daemon=True).start()",
    "crewai events": "from crewai.flow.flow import Flow; a = Flow()",
}
# Exports once a minute, whatever happens, over a connection that forks would share.
METRIC_READER = (
    "from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader as R\n"
    "from opentelemetry.sdk.metrics import MeterProvider\n"
    "a = MeterProvider([R(ConsoleMetricExporter())])"
)
CREW = """
class Crew:
    def kickoff(self, inputs):
        {body}
        return {{"said": said, "host": os.getppid()}}
"""


class ThreadsTest(unittest.TestCase):
    """One fork server with CrewAI."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.worker = shared_worker()
        cls.place = tempfile.TemporaryDirectory(prefix="crewfleet-threads-")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.worker.end_hosts()
        cls.place.cleanup()

    def target(self, name: str, source: str, body: str = "said = None") -> dict:
        """`start_host`'s arguments for a new module."""
        module = "case_" + "".join(letter if letter.isalnum() else "_" for letter in name)
        text = f"import os\nos.environ.pop('OTEL_SDK_DISABLED', None)\n{source}\n" + CREW.format(body=body)
        Path(self.place.name, f"{module}.py").write_text(text, encoding="utf-8")
        return {"target": f"{module}:Crew", "path": [self.place.name]}

    def host(self, *target: str) -> FakeHost:
        """A host of that module; skips where this environment, of an older CrewAI, has not what it imports."""
        host = self.worker.start_host(**self.target(*target))
        message = host.first.get("error", {}).get("message", "")
        if self.worker.ready["notes"] and "No module named" in message:
            self.skipTest(message)
        return host

    def test_every_kind_is_tried(self) -> None:
        self.assertEqual({kind for kind, rule in sharing.THREADS.items() if rule.shared}, set(SAFE))
        self.assertEqual({kind for kind, rule in sharing.THREADS.items() if not rule.shared}, set(UNSAFE))

    def test_safe_threads_work_in_forks(self) -> None:
        for kind, (source, body, expected) in SAFE.items():
            with self.subTest(kind):
                host = self.host(kind, source, body)
                self.assertEqual((host.first["isolation"], host.first["isolation_reasons"]), ("fork", []))
                children = [host.start_child() for _ in range(3)]
                for number, child in enumerate(children):
                    child.kickoff({"place": os.path.join(self.place.name, f"{kind}-{number}")})
                for child in children:
                    answer = child.peer.expect("result", "error")
                    self.assertEqual(answer["type"], "result", answer)
                    self.assertEqual(answer["result"]["json"], {"said": expected, "host": host.pid})
                    child.finish()

    def test_other_threads_lead_to_fresh_interpreters(self) -> None:
        for kind, source in UNSAFE.items():
            with self.subTest(kind):
                if kind == "crewai events":
                    self.worker.require("event ids")  # older ones emit in the caller's thread
                host = self.host(kind, source)
                self.assertEqual(host.first["isolation"], "spawn")
                self.assertTrue(any(reason.endswith(sharing.THREADS[kind].reason) for reason in host.first["isolation_reasons"]), host.first)

    def test_a_metric_reader_is_no_batch_exporter(self) -> None:
        host = self.host("metrics", METRIC_READER)
        self.assertEqual(host.first["isolation"], "spawn")
        self.assertIn("OtelPeriodicExportingMetricReader", host.first["isolation_reasons"][0])

    def test_what_a_thread_opens_later_ends_the_forks(self) -> None:
        # LanceDB's loop may live on in the host; what runs in it may open a connection when everything was looked at.
        source = (
            "import asyncio, socket, lancedb.background_loop as b\n"
            "kept = []\n"
            "async def later():\n"
            "    while not os.path.exists(place): await asyncio.sleep(0.01)\n"
            "    kept.append(socket.socketpair()); os.rename(place, place + '-done')\n"
            f"place = {os.path.join(self.place.name, 'now')!r}\n"
            "asyncio.run_coroutine_threadsafe(later(), b.LOOP.loop)"
        )
        host = self.host("later", source)
        self.assertEqual(host.first["isolation"], "fork")
        first = host.start_child()
        self.assertEqual(first.run({})["result"]["json"]["host"], host.pid)
        first.finish()
        os.mkfifo(os.path.join(self.place.name, "now"))
        while not os.path.exists(os.path.join(self.place.name, "now-done")):
            os.sched_yield()
        second = _child_after_notice(host)
        self.assertEqual(second["isolation"], "spawn")
        self.assertTrue(any("connection or socket pair" in reason for reason in second["isolation_reasons"]), second)

    def test_a_host_that_cannot_look_before_a_fork_makes_none(self) -> None:
        host = self.host("blind", "import lancedb.background_loop as b; b.LOOP.loop")
        self.assertEqual(host.first["isolation"], "fork")
        with Short(host.pid, 3):  # taken by those that come with the frame
            answer = _child_after_notice(host)
        self.assertEqual(answer["type"], "start_failed")
        self.assertIn("Too many open files", answer["message"])
        child = host.start_child()
        self.assertEqual(child.run({})["result"]["json"]["host"], host.pid)
        child.finish()


def _child_after_notice(host) -> dict:
    """Asks for a child, and returns the first frame that comes: "isolation" when the host sends that before it starts one."""
    pipes = os.pipe()
    host.peer.send({"type": "start", "id": 77, "role": "child"}, (pipes[1], pipes[1], pipes[1]))
    frame = host.peer.receive()
    for fd in pipes:
        os.close(fd)
    return frame


if __name__ == "__main__":
    unittest.main()
