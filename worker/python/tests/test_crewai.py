"""Real CrewAI crews, with a model that needs no network."""

import os
import signal
import unittest

from fake_worker import Fifo, shared_worker

MARKETING = os.path.join(os.path.dirname(__file__), *[".."] * 3, "deploy", "examples", "marketing", "src")


class CrewAITest(unittest.TestCase):
    """One fork server; a host for each target."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.worker = shared_worker()
        cls.hosts = {}

    @classmethod
    def tearDownClass(cls) -> None:
        cls.worker.end_hosts()

    def host(self, target: str, **more: object):
        if target not in self.hosts:
            self.hosts[target] = self.worker.start_host(target, **more)
        return self.hosts[target]

    def child(self, target: str = "offline:make", **more: object):
        child = self.host(target, **more).start_child()
        self.assertEqual(child.first["type"], "hello")
        return child

    def test_fork_server_and_host_tell_what_they_have(self) -> None:
        self.assertRegex(self.worker.ready["crewai"], r"^\d+\.\d+")
        self.assertIsNone(self.worker.ready["import_error"])
        first = self.host("offline:make").first
        self.assertEqual((first["inputs"], first["isolation_reasons"], first["isolation"]), (["A", "B"], [], "fork"))
        checked = self.worker.check("offline:make")
        self.assertEqual((checked["ok"], checked["inputs"], checked["isolation"], checked["crewai"]), (True, ["A", "B"], "fork", self.worker.ready["crewai"]))

    def test_a_kickoff_with_its_events_tasks_and_usage(self) -> None:
        child = self.child()
        answer = child.run({"A": "alpha", "B": "beta", "unused": None})
        self.assertEqual(answer["type"], "result", answer)
        tasks = answer["result"]["tasks"]
        self.assertEqual([(task["name"], task["agent"], task["json"]) for task in tasks], [("one", "first", None), ("two", "second", None)])
        self.assertIn('say alpha as {"key": 1}', tasks[0]["raw"])
        # What CrewAI's own output tells of its tasks, without their prompts.
        self.assertEqual((answer["result"]["kind"], tasks[0]["description"]), ("crew", 'say alpha as {"key": 1}'))
        self.assertEqual([(bool(task["expected_output"]), task["output_format"]) for task in tasks], [(True, "raw")] * 2)
        self.assertNotIn("messages", tasks[0])
        self.assertIn("say beta", answer["result"]["raw"])
        self.assertEqual(answer["result"]["usage"], {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30, "successful_requests": 2})
        self.assertEqual(answer["tokens_by_model"], {"parrot-1": {"prompt": 20, "completion": 10}})
        events = [frame for frame in child.peer.skipped if frame["type"] == "event"]
        types = [event["event_type"] for event in events]
        for event_type in ("crew_kickoff_started", "task_started", "llm_call_completed", "task_completed", "crew_kickoff_completed"):
            self.assertIn(event_type, types)
        self.assertLess(types.index("task_started"), types.index("llm_call_started"))
        completed = next(event["data"] for event in events if event["event_type"] == "llm_call_completed")
        self.assertEqual((completed["task"], completed["agent"], completed["model"]), ("one", "first", "parrot-1"))
        if not self.worker.lacks("usage in its events"):
            self.assertEqual(completed["usage"], {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15})
        self.assertEqual("duration_s" in completed, not self.worker.lacks("event ids"))
        self.assertNotIn("alpha", str(events))
        ended = child.ended()
        self.assertEqual((ended["killed_descendants"], ended["threads_left"], ended["cut"], answer["result"]["files"]), (0, 0, [], []))
        self.assertEqual(child.finish()["exit_code"], 0)
        self.assertEqual(child.output()[0], "")

    def test_a_traced_kickoff_says_what_spans_need(self) -> None:
        self.worker.require("event ids")
        child = self.child()
        child.run({"A": "alpha", "B": "beta"})
        self.assertTrue(all("trace" not in frame for frame in child.peer.skipped))
        child.peer.skipped.clear()
        child.run({"A": "alpha", "B": "beta"}, traceparent="00-1-2-01")
        events = [frame for frame in child.peer.skipped if frame["type"] == "event"]
        marks = {event["event_type"]: event["trace"] for event in reversed(events)}  # the first of each
        started, completed = marks["llm_call_started"], marks["llm_call_completed"]
        self.assertEqual(completed["ends"], started["id"])
        self.assertGreaterEqual(completed["time"], started["time"])
        self.assertIn(started["parent"], {event["trace"]["id"] for event in events})
        self.assertEqual((marks["task_started"]["task"], marks["agent_execution_started"]["agent"]), ("one", "first"))
        if not self.worker.ready["notes"]:  # older models don't say
            self.assertEqual(started["provider"], "custom")
        self.assertNotIn("alpha", str(events))
        child.finish()

    def test_two_kickoffs_at_once_do_not_mix(self) -> None:
        children = [self.child(), self.child()]
        fifos = [Fifo(self.worker.dir.name, f"at-once-{number}") for number in range(2)]
        for number, (child, fifo) in enumerate(zip(children, fifos, strict=True)):
            child.kickoff({"A": f"FIFO={fifo.path} mark-{number}", "B": f"last-{number}"})
        for child in children:
            child.peer.event("llm_call_started")
        for fifo in reversed(fifos):
            fifo.release()
        for number, child in enumerate(children):
            text = str(child.peer.expect("result"))
            self.assertIn(f"mark-{number}", text)
            self.assertIn(f"last-{number}", text)
            self.assertNotIn(f"mark-{1 - number}", text)
            self.assertNotIn(f"last-{1 - number}", text)
            child.finish()

    def test_one_child_serves_kickoffs_one_after_the_other(self) -> None:
        for target in ("offline:make", "offline:make_kept", "offline:instance", "offline:DecoratedCrew"):
            with self.subTest(target):
                child = self.child(target)
                for number in range(3):
                    text = str(child.run({"A": f"mark-{number}", "B": "b"})["result"])
                    self.assertIn(f"mark-{number}", text)
                    self.assertNotIn(f"mark-{number - 1}", text)
                child.finish()

    def test_missing_inputs_are_named_before_anything_runs(self) -> None:
        child = self.child()
        for inputs, missing in (({}, ["A", "B"]), ({"B": None}, ["A"])):
            child.peer.skipped.clear()
            error = child.run(inputs)["error"]
            self.assertEqual((error["kind"], error["retryable"], error["detail"]["missing_inputs"]), ("invalid_inputs", False, missing))
            self.assertEqual(child.peer.skipped, [])
        child.finish()

    def test_inputs_that_a_callback_gives_are_not_missing(self) -> None:
        child = self.child("offline:make_completed")
        self.assertIn("from-callback", child.run({"A": "a"})["result"]["raw"])
        self.assertEqual(child.run({})["error"]["detail"]["missing_inputs"], ["A"])
        child.finish()

    def test_cancel_stops_at_the_next_seam(self) -> None:
        self.worker.require("cancel hooks")
        child = self.child()
        fifo = Fifo(self.worker.dir.name, "cancel")
        child.kickoff({"A": f"FIFO={fifo.path} a", "B": "b"})
        child.peer.event("llm_call_started")
        child.peer.send({"type": "cancel"})
        fifo.release()
        answer = child.peer.expect("result", "error")
        self.assertEqual((answer["error"]["kind"], answer["error"]["retryable"]), ("cancelled", False))
        self.assertEqual(answer["usage"]["successful_requests"], 1)
        self.assertEqual(child.run({"A": "a", "B": "next"})["type"], "result")
        child.finish()

    def test_cancel_before_the_start(self) -> None:
        self.worker.require("cancel hooks")
        child = self.child()
        child.kickoff({"A": "a", "B": "b"})
        child.peer.send({"type": "cancel"})
        self.assertEqual(child.peer.expect("error")["error"]["kind"], "cancelled")
        child.finish()

    def test_a_child_killed_within_a_kickoff(self) -> None:
        child = self.child()
        fifo = Fifo(self.worker.dir.name, "killed")
        child.kickoff({"A": f"FIFO={fifo.path} a", "B": "b"})
        child.peer.event("llm_call_started")
        os.killpg(child.pid, signal.SIGKILL)
        exited = child.host.exited()
        self.assertEqual((exited["pid"], exited["signal"]), (child.pid, signal.SIGKILL))
        self.assertIsNone(child.peer.receive())

    def test_human_input_is_refused(self) -> None:
        child = self.child("offline:make_human")
        answer = child.run({"A": "a", "B": "b"})
        self.assertEqual((answer["error"]["kind"], answer["error"]["retryable"], answer["usage"]), ("human_input_needed", False, None))
        self.assertIn('task "one" has human_input=True', answer["error"]["message"])
        child.finish()

    def test_streaming_crews_are_read_to_their_end(self) -> None:
        self.worker.require_import("offline:make_streaming")
        child = self.child("offline:make_streaming")
        answer = child.run({"A": "a", "B": "streamed"})
        self.assertIn("streamed", answer["result"]["raw"])
        self.assertEqual(answer["result"]["usage"]["successful_requests"], 2)
        child.finish()

    def test_flows(self) -> None:
        host = self.host("offline:TwoStepFlow")
        self.assertIsNone(host.first["inputs"])
        child = host.start_child()
        answer = child.run({"A": "for-the-flow"})
        self.assertEqual(answer["result"]["json"]["pid"], child.pid)
        self.assertIn("say flow", answer["result"]["json"]["text"])
        self.assertEqual(answer["result"]["usage"]["successful_requests"], 2)
        child.finish()

    def test_json_crews(self) -> None:
        self.worker.require("JSON crews")
        child = self.child("parrots.json")
        self.assertEqual(child.host.first["inputs"], ["A", "B"])
        self.assertIn("say a and default-b", child.run({"A": "a"})["result"]["raw"])
        self.assertIn("say a and given-b", child.run({"A": "a", "B": "given-b"})["result"]["raw"])
        self.assertEqual(child.run({})["error"]["detail"]["missing_inputs"], ["A"])
        child.finish()

    def test_a_crew_that_cannot_be_built(self) -> None:
        checked = self.worker.check("offline:fails_to_build")
        self.assertEqual((checked["ok"], checked["error"]["kind"]), (False, "build_failed"))
        self.assertIn("no model configured", checked["error"]["message"])
        host = self.worker.start_host("offline:fails_to_build")
        self.assertEqual(host.first["error"]["kind"], "build_failed")
        self.assertEqual(self.worker.exited()["pid"], host.pid)

    def test_the_marketing_example(self) -> None:
        settings = {"path": [MARKETING]}
        self.worker.require("usage in its events")  # its offline model tells it
        self.assertEqual(self.worker.check("marketing.crew:MarketingCrew", **settings)["inputs"], ["BUSINESS_DETAILS", "PRODUCT_DESCRIPTION"])
        child = self.child("marketing.crew:MarketingCrew", **settings)
        answer = child.run({"BUSINESS_DETAILS": "mark-of-business", "PRODUCT_DESCRIPTION": "mark-of-product"})
        for text in ("mark-of-business", "mark-of-product", "offline model"):
            self.assertIn(text, answer["result"]["raw"])
        self.assertEqual([task["name"] for task in answer["result"]["tasks"]], ["market_research", "marketing_copy"])
        self.assertGreater(answer["result"]["usage"]["total_tokens"], 0)
        child.finish()

    def test_a_child_does_not_do_again_what_is_done_once(self) -> None:
        self.worker.require_import("prewarm:make")
        answer = self.child("prewarm:make").run({})
        self.assertEqual(answer["type"], "result", answer)
        self.assertEqual(answer["result"]["raw"], "[]", answer)

    def test_spawned_children_serve_crewai(self) -> None:
        host = self.worker.start_host("offline:make", isolation="spawn")
        self.assertEqual(host.first["isolation"], "spawn")
        child = host.start_child()
        self.assertIn("spawned", child.run({"A": "a", "B": "spawned"})["result"]["raw"])
        self.assertEqual(child.finish()["exit_code"], 0)

    def test_shared_storage(self) -> None:
        host = self.worker.start_host("offline:make", storage="shared")
        children = [host.start_child() for _ in range(2)]
        for child in children:
            child.kickoff({"A": "a", "B": "b"})
        for child in children:
            self.assertEqual(child.peer.expect("result", "error")["type"], "result")
            self.assertFalse(os.path.exists(os.path.join(child.work_dir, ".storage")))
        self.assertTrue(os.path.exists(os.path.join(self.worker.dir.name, "storage")))


if __name__ == "__main__":
    unittest.main()
