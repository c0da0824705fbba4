"""The end of a child: what a process does at its end at home is done, after the answer, within its time."""

import os
import unittest

from fake_worker import FakeWorker, Fifo


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

    def test_a_child_with_a_thread_that_hangs_is_not_used_again(self) -> None:
        child = self.hasty.start_child()
        child.run({"do": "hang_in_thread", "to": self.told})
        ended = child.ended()
        self.assertEqual((len(ended["cut"]), ended["reusable"]), (1, False))
        child.finish()


if __name__ == "__main__":
    unittest.main()
