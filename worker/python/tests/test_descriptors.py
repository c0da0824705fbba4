"""No file descriptor is left to a process that starts others: that start fails, and is told; the next finds all as before."""

import os
import socket
import unittest

from fake_worker import FakeWorker, Peer, Watched
from shortage import Short


class DescriptorsTest(unittest.TestCase):
    """A fork server and a host without crewai."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.worker = FakeWorker(with_crewai=False)
        cls.host = cls.worker.start_host("plain:make")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.worker.close()

    def refused(self, peer: Peer, role: str, fd_count: int) -> str:
        """Asks for a process, which is refused; returns the message, once nothing of it lives."""
        (ours, theirs), others = socket.socketpair(), [os.open(os.devnull, os.O_WRONLY) for _ in range(fd_count - 1)]
        fds = (theirs.fileno(), *others)
        start_id = self.worker.next_id()
        peer.send({"type": "start", "id": start_id, "role": role, "crew": "crew", "settings": self.worker.settings("plain:make")}, fds)
        for fd in others:
            os.close(fd)
        theirs.close()
        answer = peer.expect("start_failed")
        self.assertEqual(answer["id"], start_id)
        ours.recv(1 << 16)  # what was started has gone, and so has its end of the channel
        ours.close()
        return answer["message"]

    def serves(self) -> None:
        child = self.host.start_child()
        self.assertEqual(child.do("echo", {"a": 1})["result"]["json"], {"a": 1})
        self.assertEqual(child.finish()["exit_code"], 0)

    def test_a_child_that_cannot_be_started_is_refused(self) -> None:
        for free in range(5):
            with self.subTest(free=free), Short(self.host.pid, free):
                self.assertRegex(self.refused(self.host.peer, "child", 3), "too many|Too many")
            self.serves()

    def test_a_host_that_cannot_be_started_is_refused(self) -> None:
        for free in range(3):
            with self.subTest(free=free), Short(self.worker.process.pid, free):
                self.assertRegex(self.refused(self.worker.peer, "host", 1), "too many|Too many")
        self.serves()

    def test_a_check_that_cannot_be_made_is_told(self) -> None:
        for free in range(3):
            with self.subTest(free=free), Short(self.worker.process.pid, free):
                report = self.worker.check("plain:make")
                self.assertIn("Too many", report["error"]["message"])
                self.assertTrue(report["may_pass"])
        self.assertTrue(self.worker.check("plain:make")["ok"])

    def test_an_end_is_told_and_what_it_leaves_is_killed_later(self) -> None:
        child = self.host.start_child()
        left = Watched(child.do("daemonise")["result"]["json"])
        with Short(self.host.pid, 0):
            self.assertEqual(child.finish()["pid"], child.pid)
        self.serves()
        self.assertTrue(left.ended())


if __name__ == "__main__":
    unittest.main()
