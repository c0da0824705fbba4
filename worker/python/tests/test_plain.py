"""Processes: what becomes of children, their descendants and their answers. No crewai is needed, nor importable here."""

import json
import os
import signal
import socket
import subprocess
import sys
import unittest

from fake_worker import MAIN, FakeWorker, Fifo, Watched


class PlainTest(unittest.TestCase):
    """One fork server without crewai, one host for most."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.worker = FakeWorker(with_crewai=False)
        cls.host = cls.worker.start_host("plain:make")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.worker.close()

    def child(self):
        child = self.host.start_child()
        self.assertEqual(child.first, {"type": "hello", "pid": child.pid})
        return child

    def test_a_fork_server_without_crewai_says_so_and_works(self) -> None:
        self.assertIsNone(self.worker.ready["crewai"])
        self.assertIn("ModuleNotFoundError", self.worker.ready["import_error"])
        first = self.host.first
        self.assertEqual((first["type"], first["pid"], first["inputs"], first["isolation"]), ("ready", self.host.pid, None, "fork"))

    def test_result_and_clean_exit(self) -> None:
        child = self.child()
        answer = child.do("echo", {"a": [1, None, "ü"]})
        self.assertEqual(answer["result"]["json"], {"a": [1, None, "ü"]})
        self.assertEqual(json.loads(answer["result"]["raw"]), {"a": [1, None, "ü"]})
        ended = child.ended()
        self.assertEqual((ended["killed_descendants"], ended["threads_left"], ended["cut"], ended["reusable"]), (0, 0, [], True))
        exited = child.finish()
        self.assertEqual((exited["id"], exited["pid"]), (child.start_id, child.pid))
        self.assertEqual((exited["exit_code"], exited["signal"], exited["orphans_killed"]), (0, None, 0))
        self.assertGreater(exited["max_rss_bytes"], 1 << 20)

    def test_each_kickoff_has_its_directory_and_environment(self) -> None:
        child = self.child()
        self.assertEqual(child.do("leak")["type"], "result")
        seen = child.do("where")["result"]["json"]
        self.assertEqual(seen["cwd"], os.getcwd())  # of the worker: this crew belongs to no project
        self.assertEqual(seen["kickoff_id"], os.path.basename(child.work_dir))
        self.assertEqual(seen["storage"], os.path.join(child.work_dir, ".storage"))
        self.assertIsNone(seen["leaked"])
        self.assertIsNone(seen["secret"])
        child.finish()

    def test_sys_exit_ends_only_the_kickoff(self) -> None:
        child = self.child()
        answer = child.do("exit", 3)
        self.assertEqual((answer["error"]["kind"], answer["error"]["detail"]["exit_code"], answer["error"]["retryable"]), ("system_exit", 3, False))
        self.assertEqual(child.do("echo", "still here")["result"]["raw"], "still here")
        child.finish()

    def test_os_exit_is_reported_with_its_code(self) -> None:
        child = self.child()
        child.kickoff({"do": "hard_exit", "with": 42})
        exited = self.host.exited()
        self.assertEqual((exited["pid"], exited["exit_code"], exited["signal"]), (child.pid, 42, None))

    def test_a_killed_child_is_reported_with_its_signal(self) -> None:
        child = self.child()
        os.kill(child.pid, signal.SIGKILL)
        exited = self.host.exited()
        self.assertEqual((exited["id"], exited["exit_code"], exited["signal"]), (child.start_id, None, signal.SIGKILL))

    def test_memory_limit(self) -> None:
        host = self.worker.start_host("plain:make", rlimit_data_bytes=512 << 20)
        child = host.start_child()
        answer = child.do("eat", 4 << 30)
        self.assertEqual(answer["error"]["kind"], "out_of_memory")
        self.assertIn("MemoryError", answer["error"]["detail"]["traceback"])
        self.assertEqual(child.do("eat", 1 << 20)["result"]["json"], 1 << 20)
        self.assertEqual(child.do("eat", 4 << 30)["error"]["kind"], "out_of_memory")
        child.finish()

    def test_a_daemonised_grandchild_ends_with_the_kickoff(self) -> None:
        child = self.child()
        answer = child.do("daemonise")
        ended = child.ended()
        self.assertEqual((ended["killed_descendants"], ended["reusable"]), (1, False))
        self.assertTrue(Watched(answer["result"]["json"]).ended())
        self.assertEqual(child.finish()["orphans_killed"], 0)

    def test_a_daemonised_grandchild_ends_with_a_killed_child(self) -> None:
        child = self.child()
        place = os.path.join(self.worker.dir.name, "pid")
        child.kickoff({"do": "daemonise_and_die", "with": place})
        exited = self.host.exited()
        self.assertEqual((exited["signal"], exited["orphans_killed"]), (signal.SIGKILL, 1))
        with open(place, encoding="ascii") as file:
            self.assertTrue(Watched(int(file.read())).ended())

    def test_children_do_not_touch_each_others_descendants(self) -> None:
        fifo = Fifo(self.worker.dir.name, "other")
        hanging = self.child()
        hanging.kickoff({"do": "hang", "with": fifo.path})
        pids = [int(pid) for pid in fifo.read().split()]
        neighbour = self.child()
        neighbour.do("daemonise")
        neighbour.ended()
        self.assertEqual(neighbour.finish()["pid"], neighbour.pid)
        for pid in pids:
            os.kill(pid, 0)
        os.killpg(hanging.pid, signal.SIGKILL)
        exited = self.host.exited()
        self.assertEqual((exited["pid"], exited["orphans_killed"]), (hanging.pid, 1))
        self.assertTrue(all(Watched(pid).ended() for pid in pids))

    def test_a_closed_channel_ends_a_running_kickoff_and_all_it_started(self) -> None:
        fifo = Fifo(self.worker.dir.name, "closed")
        child = self.child()
        child.kickoff({"do": "hang", "with": fifo.path})
        watched = [Watched(int(pid)) for pid in fifo.read().split()]
        exited = child.finish()
        self.assertEqual((exited["exit_code"], exited["orphans_killed"]), (1, 0))
        self.assertTrue(all(process.ended() for process in watched))

    def test_stdout_is_free_for_garbage(self) -> None:
        child = self.child()
        self.assertEqual(child.do("shout", "\x00\x00\x00\x05{]garbage\n")["result"]["raw"], "shouted")
        self.assertEqual(child.do("read_stdin")["result"]["raw"], "")
        child.finish()
        stdout, stderr = child.output()
        self.assertEqual(stdout, "\x00\x00\x00\x05{]garbage\n")
        self.assertEqual(stderr, "from stderr\n")

    def test_large_results_and_tracebacks(self) -> None:
        child = self.child()
        self.assertEqual(len(child.do("big", 20 << 20)["result"]["raw"]), 20 << 20)
        error = child.do("big_error", 20 << 20)["error"]
        self.assertEqual((error["kind"], len(error["message"])), ("exception", 4000))
        self.assertGreater(len(error["detail"]["traceback"]), 20 << 20)
        child.finish()

    def test_a_result_too_large_for_a_frame_is_an_error(self) -> None:
        child = self.child()
        answer = child.do("big", 257 << 20)
        self.assertEqual((answer["type"], answer["error"]["kind"]), ("error", "result_too_large"))
        self.assertEqual(child.do("echo", "on")["result"]["raw"], "on")
        child.finish()

    def test_anything_becomes_json(self) -> None:
        child = self.child()
        value = child.do("strange")["result"]["json"]
        self.assertEqual((value["nan"], value["set"], value["bytes"], value["lone"]), (None, [1], "/w==", "a?b"))
        self.assertEqual(value["3"], "<class 'object'>")
        child.finish()

    def test_retryable_errors_are_marked(self) -> None:
        child = self.child()
        error = child.do("rate_limit")["error"]
        self.assertEqual((error["kind"], error["message"], error["retryable"]), ("exception", "slow down", True))
        detail = error["detail"]
        self.assertEqual((detail["http_status"], detail["retry_after_s"]), (429, 7.0))
        names = [name.rsplit(".", 1)[-1] for name in detail["exception_classes"]]
        # The class, its bases, and those of the cause: what a retry policy may name.
        self.assertEqual(names, ["RateLimitError", "ConnectionError", "OSError", "KeyError", "LookupError"])
        dated = child.do("dated_rate_limit")["error"]["detail"]["retry_after_s"]
        self.assertTrue(3500 < dated <= 3600, dated)
        self.assertFalse(child.do("no_such_method")["error"]["retryable"])
        child.finish()

    def test_threads_left_are_counted(self) -> None:
        child = self.child()
        child.do("leave_thread")
        ended = child.ended()
        self.assertEqual((ended["threads_left"], ended["cut"], ended["reusable"]), (1, [], False))
        self.assertEqual(child.finish()["exit_code"], 0)

    def test_threads_at_import_lead_to_spawn(self) -> None:
        reasons = self.worker.check("threads_at_import:Crew")["isolation_reasons"]
        self.assertEqual([reason.split(",")[0] for reason in reasons], ["importing the target left the thread restless"])
        host = self.worker.start_host("threads_at_import:Crew")
        self.assertEqual((host.first["isolation"], host.first["isolation_reasons"]), ("spawn", reasons))
        child = host.start_child()
        answer = child.run({"A": 1})
        self.assertEqual((answer["result"]["json"]["pid"], answer["result"]["json"]["inputs"]), (child.pid, {"A": 1}))
        self.assertIn("restless", answer["result"]["json"]["threads"])
        exited = child.finish()
        self.assertEqual((exited["pid"], exited["exit_code"]), (child.pid, 0))

    def test_spawn_on_request(self) -> None:
        host = self.worker.start_host("plain:make", isolation="spawn")
        self.assertEqual(host.first["isolation"], "spawn")
        child = host.start_child()
        child.do("daemonise")
        self.assertEqual(child.ended()["killed_descendants"], 1)
        # What left something behind takes no other kickoff, and ends.
        exited = host.exited()
        self.assertEqual((exited["pid"], exited["exit_code"], exited["signal"]), (child.pid, 0, None))

    def test_import_errors_come_with_a_traceback(self) -> None:
        checked = self.worker.check("broken_import:Crew")
        self.assertEqual((checked["ok"], checked["error"]["kind"]), (False, "import_failed"))
        self.assertFalse(checked["may_pass"], "another try finds the same")
        self.assertIn("no_such_module_of_this_crew", checked["error"]["message"])
        self.assertIn("broken_import.py", checked["error"]["detail"])
        host = self.worker.start_host("broken_import:Crew")
        self.assertEqual((host.first["type"], host.first["error"]["kind"]), ("failed", "import_failed"))
        exited = self.worker.peer.expect("exited")
        self.assertEqual((exited["id"], exited["pid"], exited["exit_code"]), (host.start_id, host.pid, 1))

    def test_an_import_that_kills_its_process_is_reported(self) -> None:
        checked = self.worker.check("deadly_import:Crew")
        self.assertEqual((checked["ok"], checked["error"]["kind"]), (False, "import_failed"))
        self.assertTrue(checked["may_pass"], "the machine may be to blame")
        self.assertIn("signal 11", checked["error"]["message"])

    def test_targets_that_are_none(self) -> None:
        expected = {
            "json": "without a crew, flow or agent",
            "plain:Nothing": 'has no "Nothing"; use "plain:Plain"',
            "plain:os": 'is a module; use "plain:Plain"',
            "plain:daemonise": 'no kickoff method; a factory must return a crew, a flow or an agent; use "plain:Plain"',
            "none.json": "no such file",
        }
        for target, part in expected.items():
            checked = self.worker.check(target)
            self.assertFalse(checked["ok"], target)
            self.assertIn(part, checked["error"]["message"])

    def test_a_start_without_its_fds_fails_alone(self) -> None:
        read, write = os.pipe()
        for number, fds in ((998, ()), (999, (write, write))):
            self.host.peer.send({"type": "start", "id": number, "role": "child"}, fds)
            self.assertEqual(self.host.peer.expect("start_failed")["id"], number)
        os.close(write)
        self.assertEqual(os.read(read, 1), b"")
        os.close(read)
        self.child().finish()

    def test_frames_may_come_in_one_piece(self) -> None:
        first, second = socket.socketpair(), socket.socketpair()
        pipes = os.pipe()
        for number, pair in ((1, first), (2, second)):
            self.host.peer.send({"type": "start", "id": number, "role": "child"}, (pair[1].fileno(), pipes[1], pipes[1]))
        self.assertEqual([self.host.peer.expect("started")["id"] for _ in range(2)], [1, 2])
        for sock in (*first, *second):
            sock.close()
        os.close(pipes[0])
        os.close(pipes[1])
        self.assertEqual({self.host.exited()["id"] for _ in range(2)}, {1, 2})

    def test_sigterm_to_the_group_is_left_to_the_worker(self) -> None:
        os.kill(self.host.pid, signal.SIGTERM)
        os.kill(self.worker.process.pid, signal.SIGTERM)
        child = self.child()
        self.assertEqual(child.do("echo", "on")["result"]["raw"], "on")
        os.kill(child.pid, signal.SIGTERM)
        self.assertEqual(self.host.exited()["signal"], signal.SIGTERM)


class EndTest(unittest.TestCase):
    """The end of worker, fork server or host ends everything below."""

    def setUp(self) -> None:
        self.worker = FakeWorker(with_crewai=False)
        self.addCleanup(self.worker.close)
        self.host = self.worker.start_host("plain:make")
        fifo = Fifo(self.worker.dir.name, "hang")
        self.child = self.host.start_child()
        self.child.kickoff({"do": "hang", "with": fifo.path})
        self.below = [Watched(int(pid)) for pid in fifo.read().split()]

    def assert_all_gone(self, *more: Watched) -> None:
        self.assertTrue(all(watched.ended() for watched in (*self.below, *more)))

    def test_of_the_worker(self) -> None:
        host = Watched(self.host.pid)
        for channel in self.worker.channels:
            channel.close()
        self.worker.peer.close()
        self.assertEqual(self.worker.process.wait(), 0)
        self.assert_all_gone(host)

    def test_of_the_fork_servers_channel_alone(self) -> None:
        host = Watched(self.host.pid)
        self.worker.peer.close()
        self.assertEqual(self.worker.process.wait(), 0)
        self.assert_all_gone(host)

    def test_of_the_fork_server(self) -> None:
        host = Watched(self.host.pid)
        self.worker.process.kill()
        self.assert_all_gone(host)

    def test_of_the_host(self) -> None:
        os.kill(self.host.pid, signal.SIGKILL)
        exited = self.worker.peer.expect("exited")
        self.assertEqual((exited["id"], exited["signal"]), (self.host.start_id, signal.SIGKILL))
        self.assert_all_gone()

    def test_of_the_hosts_channel(self) -> None:
        self.host.peer.close()
        exited = self.worker.peer.expect("exited")
        self.assertEqual((exited["id"], exited["exit_code"]), (self.host.start_id, 0))
        self.assert_all_gone()

    def test_of_a_channel_with_garbage(self) -> None:
        self.host.peer.socket.sendall(b"\xff" * 64)
        exited = self.worker.peer.expect("exited")
        self.assertEqual(exited["id"], self.host.start_id)
        self.assertIn("frame of 4294967295 bytes", self.worker.host_output())
        self.assert_all_gone()


class UsageTest(unittest.TestCase):
    """What people see who start it by hand."""

    def test_wrong_arguments_print_the_usage(self) -> None:
        run = subprocess.run([sys.executable, MAIN, "wrong"], capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 2)
        self.assertIn("usage: python main.py fork-server", run.stderr)


if __name__ == "__main__":
    unittest.main()
