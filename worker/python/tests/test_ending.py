"""The end of a child: what a process does at its end at home is done, after the answer, within its time."""

import importlib.util
import os
import select
import unittest
from pathlib import Path

from fake_worker import FakeWorker, Fifo, shared_worker


class EndingTest(unittest.TestCase):
    """Children of a host without crewai."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.worker = FakeWorker(with_crewai=False)
        cls.host = cls.worker.start_host("endings:make")
        cls.hasty = cls.worker.start_host("endings:make", exit_grace_s=0.3)
        cls.spawning = cls.worker.start_host("endings:make", isolation="spawn")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.worker.close()

    def setUp(self) -> None:
        self.told = os.path.join(self.worker.dir.name, self.id())

    def done(self) -> list[str]:
        with open(self.told, encoding="utf-8") as file:
            return file.read().splitlines()

    def run_last(self, do: str, host=None, **inputs: object) -> tuple[dict, dict, dict]:
        """Answer, "ended" and "exited" of a child's only kickoff."""
        child = (host or self.host).start_child()
        answer = child.run({"do": do, "to": self.told, **inputs}, last=True)
        return answer, child.ended(), child.host.exited()

    def test_exit_handlers_and_threads_do_their_work(self) -> None:
        for do, done in (("exporter", ["exported"]), ("pool", ["worked"]), ("order", ["thread", "handler 2", "handler 1"])):
            for host in (self.host, self.spawning):
                with self.subTest(do, spawned=host is self.spawning):
                    self.told = os.path.join(self.worker.dir.name, f"{do}-{host.pid}")
                    answer, ended, exited = self.run_last(do, host)
                    self.assertEqual(answer["result"]["raw"], "answered")
                    self.assertEqual((ended["cut"], exited["exit_code"], exited["signal"]), ([], 0, None))
                    self.assertEqual(self.done(), done)

    def test_the_answer_does_not_wait(self) -> None:
        fifo = Fifo(self.worker.dir.name, "upload")
        child = self.host.start_child()
        answer = child.run({"do": "upload", "to": self.told, "fifo": fifo.path}, last=True)
        self.assertEqual(answer["result"]["raw"], "answered")
        self.assertFalse(os.path.exists(self.told))
        fifo.release()
        self.assertEqual((child.ended()["cut"], self.done()), ([], ["uploaded"]))
        self.assertEqual(child.host.exited()["exit_code"], 0)

    def test_a_failed_kickoff_ends_as_well(self) -> None:
        answer, ended, _ = self.run_last("fail")
        self.assertEqual((answer["error"]["message"], ended["cut"]), ("failed", []))
        self.assertEqual(self.done(), ["after the failure"])

    def test_a_handler_that_fails_is_told_of_and_stops_no_other(self) -> None:
        child = self.host.start_child()
        child.run({"do": "raising", "to": self.told}, last=True)
        child.host.exited()
        self.assertEqual(self.done(), ["after"])
        self.assertIn("ZeroDivisionError", child.output()[1])

    def test_what_takes_too_long_is_cut_and_named(self) -> None:
        for do, named in (("hang_in_thread", "thread stuck, at "), ("hang_in_handler", "exit handlers, at ")):
            with self.subTest(do):
                _, ended, exited = self.run_last(do, self.hasty)
                self.assertEqual(len(ended["cut"]), 1)
                self.assertTrue(ended["cut"][0].startswith(named), ended)
                self.assertEqual((ended["reusable"], exited["exit_code"], exited["signal"]), (False, 0, None))

    def test_the_time_limit_of_the_kickoff_holds_for_its_end_too(self) -> None:
        child = self.host.start_child()
        child.run({"do": "hang_in_thread", "to": self.told}, last=True, timeout_s=0.5)
        self.assertEqual(len(child.ended()["cut"]), 1)

    def test_between_kickoffs_threads_are_awaited_and_handlers_wait(self) -> None:
        fifo = Fifo(self.worker.dir.name, "between")
        child = self.host.start_child()
        child.run({"do": "upload", "to": self.told, "fifo": fifo.path})
        fifo.release()
        ended = child.ended()
        self.assertEqual((ended["cut"], ended["reusable"], self.done()), ([], True, ["uploaded"]))
        child.run({"do": "order", "to": self.told})
        self.assertEqual((child.ended()["reusable"], self.done()), (True, ["uploaded", "thread"]))
        child.peer.send({"type": "end"})
        self.assertEqual(child.ended()["cut"], [])
        self.assertEqual(self.done(), ["uploaded", "thread", "handler 2", "handler 1"])

    def test_between_kickoffs_exporters_send_what_they_hold(self) -> None:
        child = self.host.start_child()
        for _ in range(2):
            child.run({"do": "quick_traces", "to": self.told})
            self.assertEqual((child.ended()["reusable"], self.done()[-2:]), (True, ["trace True", "metrics True"]))
        child.finish()

    def test_between_kickoffs_all_exporters_have_one_time_together(self) -> None:
        for do in ("slow_traces", "deaf_traces"):
            with self.subTest(do):
                self.told = os.path.join(self.worker.dir.name, do)
                child = self.hasty.start_child()
                child.run({"do": do, "to": self.told})
                ended, exited = child.ended(), child.host.exited()
                self.assertEqual((ended["reusable"], exited["exit_code"], self.done()), (False, 0, ["trace True"]))
                self.assertTrue(ended["cut"][0].startswith("opentelemetry.trace's exporters"), ended)

    def test_a_child_with_a_thread_that_hangs_is_not_used_again(self) -> None:
        child = self.hasty.start_child()
        child.run({"do": "hang_in_thread", "to": self.told})
        ended = child.ended()
        self.assertEqual((len(ended["cut"]), ended["reusable"]), (1, False))
        child.finish()


class ListenersTest(unittest.TestCase):
    """Listeners of real CrewAI's events, which it calls in threads of its own."""

    def test_what_a_slow_listener_does_is_done_before_the_child_ends(self) -> None:
        crewai = importlib.util.find_spec("crewai")
        bus = Path(crewai.origin).parent / "events" / "event_bus.py" if crewai is not None and crewai.origin is not None else None
        if bus is None or not bus.exists() or "def flush(" not in bus.read_text(encoding="utf-8"):
            self.skipTest("this interpreter has no CrewAI whose listeners can be awaited")
        worker = shared_worker()
        self.addCleanup(worker.end_hosts)
        host = worker.start_host("listening:make")
        self.assertEqual(host.first["isolation"], "fork", host.first)
        children = []
        for last in (True, False):  # by the exit of the process, and between kickoffs
            child, fifo, told = host.start_child(), Fifo(worker.dir.name, f"slow-{last}"), os.path.join(worker.dir.name, f"told-{last}")
            child.kickoff({"A": "a", "B": "b", "fifo": fifo.path, "told": told}, last=last)
            children.append((child, fifo, told, last))
        for child, fifo, told, last in children:
            with self.subTest(last=last):
                # The answer waits 5 s for listeners, and no longer.
                self.assertEqual(child.peer.expect("result", "error")["type"], "result")
                self.assertFalse(os.path.exists(told))
                # Half a second in which nothing may come: the end waits for the listener.
                self.assertEqual(select.select([child.peer.socket], [], [], 0.5)[0], [])
                fifo.release()
                ended = child.ended()
                self.assertEqual((ended["cut"], ended["reusable"]), ([], not last))
                with open(told, encoding="ascii") as file:
                    self.assertEqual(file.read(), "sent")


if __name__ == "__main__":
    unittest.main()
