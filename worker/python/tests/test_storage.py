"""CrewAI's storage belongs to the kickoff that uses it, also where a module made it while it was imported."""

import os
import sqlite3
import unittest

from fake_worker import seldom, shared_worker


class StorageTest(unittest.TestCase):
    """One fork server with CrewAI; a host for each way of storage."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.worker = shared_worker()
        cls.worker.require("storage of an application's own")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.worker.end_hosts()

    def run_in_new_children(self, target: str, inputs: list[dict], **settings: object) -> list[dict]:
        """The JSON results of one kickoff a child, one after another."""
        host = self.worker.start_host(target, **settings)
        self.assertEqual((host.first["type"], host.first.get("isolation")), ("ready", "fork"), host.first)
        found = []
        for one in inputs:
            child = host.start_child()
            answer = child.run(one)
            self.assertEqual(answer["type"], "result", answer)
            found.append(answer["result"]["json"])
            child.finish()
            self.assertNotIn("experimental", "".join(child.output()))
        return found

    @seldom
    def test_a_memory_made_at_import_is_each_kickoffs_own(self) -> None:
        answers = self.run_in_new_children("kept:Rememberer", [{"text": "the first's secret"}, {"text": "the second's"}])
        self.assertEqual([answer["recalled"] for answer in answers], [[], []])
        self.assertEqual(len({answer["pid"] for answer in answers}), 2)

    @seldom
    def test_a_memory_made_at_import_is_shared_where_storage_is(self) -> None:
        inputs = [{"text": "the first's"}, {"text": "the second's"}]
        answers = self.run_in_new_children("kept:Rememberer", inputs, storage="shared", storage_dir=os.path.join(self.worker.dir.name, "shared"))
        self.assertEqual([answer["recalled"] for answer in answers], [[], ["the first's"]])

    def test_one_child_forgets_between_kickoffs(self) -> None:
        child = self.worker.start_host("counting:Counter").start_child()
        answers = [child.run({"id": "the-same"}) for _ in range(2)]
        self.assertEqual([answer["result"]["json"] for answer in answers], [{"count": 1, "pid": child.pid}] * 2)
        child.finish()

    def test_flows_persisted_at_class_level_are_apart(self) -> None:
        inputs = [{"id": "the-same"}, {"id": "the-same"}]
        self.assertEqual([answer["count"] for answer in self.run_in_new_children("counting:Counter", inputs)], [1, 1])
        shared = os.path.join(self.worker.dir.name, "flows")
        self.assertEqual([answer["count"] for answer in self.run_in_new_children("counting:Counter", inputs, storage="shared", storage_dir=shared)], [1, 2])
        places = [os.path.join(directory, name) for directory, _, names in os.walk(shared) for name in names if name == "flow_states.db"]
        with sqlite3.connect(places[0]) as database:
            self.assertEqual(database.execute("select count(*) from flow_states").fetchone(), (2,))
        database.close()

    def test_nothing_is_opened_for_a_memory_that_nobody_uses(self) -> None:
        self.assertEqual([answer["lancedb"] for answer in self.run_in_new_children("minding:Forgetful", [{}])], [False])

    @seldom
    def test_the_host_imports_what_a_memory_needs(self) -> None:
        self.assertEqual([answer["lancedb"] for answer in self.run_in_new_children("minding:Minded", [{}])], [True])

    @seldom
    def test_a_module_level_crew_with_a_memory_forks(self) -> None:
        host = self.worker.start_host("kept:crew")
        self.assertEqual((host.first["isolation"], host.first["isolation_reasons"]), ("fork", []))
        child = host.start_child()
        self.assertIn("say mark", child.run({"A": "mark"})["result"]["raw"])
        child.finish()


if __name__ == "__main__":
    unittest.main()
