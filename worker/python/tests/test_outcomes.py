"""What a kickoff comes to: results of flows, callbacks, odd inputs, names, usage. Real CrewAI, no network."""

import json
import os
import unittest

from fake_worker import FakeChild, Fifo, shared_worker

INPUTS = {"A": "alpha", "B": "beta"}


class OutcomesTest(unittest.TestCase):
    """One fork server, a host for each target."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.worker = shared_worker()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.worker.end_hosts()

    def child(self, target: str, **settings: object) -> FakeChild:
        host = self.worker.start_host(target, **settings)
        if host.first["type"] == "failed":
            self.worker.require_import(target, **settings)
        child = host.start_child()
        self.addCleanup(child.peer.close)
        return child

    def result(self, target: str, given: dict = INPUTS, **settings: object) -> dict:
        answer = self.child(target, **settings).run(given)
        self.assertEqual(answer["type"], "result", answer)
        return answer["result"]

    def error(self, target: str, given: dict = INPUTS, **settings: object) -> dict:
        answer = self.child(target, **settings).run(given)
        self.assertEqual(answer["type"], "error", answer)
        return answer["error"]

    # A flow that returns nothing leaves its state.

    def test_the_state_of_a_flow_that_returns_nothing(self) -> None:
        states = {
            "PydanticFlow": {"title": "a post", "score": None},
            "DerivedFlow": {"title": "a post"},
            "DictFlow": {"title": "a post"},
        }
        for flow, state in states.items():
            with self.subTest(flow):
                result = self.result(f"flows:{flow}", {})
                self.assertEqual(result["json"], state)
                self.assertEqual(json.loads(result["raw"]), state)
        nothing = self.result("flows:StatelessFlow", {})
        self.assertEqual((nothing["raw"], nothing["json"]), ("", None))

    def test_the_id_of_a_state_that_somebody_can_use(self) -> None:
        self.assertEqual(self.result("flows:DictFlow", {"id": "given"})["json"], {"id": "given", "title": "a post"})
        for flow in ("OwnIdFlow", "PersistedFlow"):
            self.assertEqual(set(self.result(f"flows:{flow}", {})["json"]), {"id", "title"})

    def test_outputs_of_crews_in_the_result_of_a_flow(self) -> None:
        result = self.result("flows:ForEachFlow", {})
        self.assertEqual([type(text) for text in result["json"]], [str])
        self.assertNotIn("messages", result["raw"])

    def test_a_large_result_is_sent_once(self) -> None:
        for size, last in (((1 << 20) - 1, "x" * ((1 << 20) - 1)), (1 << 20, None)):
            with self.subTest(size):
                result = self.result("scripted:saying", {"TEXT": str(size)})
                self.assertEqual([len(result["raw"]), len(result["tasks"])], [size, 2])
                self.assertEqual([task["raw"] for task in result["tasks"]], ["done", last])

    # Callbacks.

    def test_a_callback_that_loses_the_inputs_is_named(self) -> None:
        for target, name in (("called_back:InPlace", "InPlace.add_b"), ("called_back:dropping", "drops_b"), ("called_back:async_before", "asynchronous")):
            with self.subTest(target):
                error = self.error(target)
                self.assertEqual((error["kind"], error["retryable"]), ("exception", False), error)
                self.assertIn(f'@before_kickoff "{name}"', error["message"])
                self.assertNotIn("missing_inputs", error["detail"])

    def test_the_caller_is_blamed_for_what_nobody_gave(self) -> None:
        error = self.error("called_back:dropping", {"A": "a"})
        self.assertEqual((error["kind"], error["detail"]["missing_inputs"]), ("invalid_inputs", ["B"]))

    def test_a_callback_that_loses_the_result_is_named(self) -> None:
        for target, name in (
            ("called_back:Forgetful", "Forgetful.publish"),
            ("called_back:losing", "loses"),
            ("called_back:losing_async", "loses_later"),
            ("called_back:losing_stream", "loses"),
        ):
            with self.subTest(target):
                error = self.error(target)
                self.assertEqual((error["kind"], error["retryable"]), ("exception", False), error)
                self.assertIn(f'@after_kickoff "{name}"', error["message"])
                self.assertIn("return result", error["message"])
        # What CrewAI forgives is forgiven here.
        self.assertIn("say again", self.result("called_back:mended")["raw"])
        self.assertIn("say 1", self.result("called_back:without_placeholders")["raw"])
        self.assertIn("text of None", self.result("called_back:found_again")["raw"])
        self.assertIn("say beta", self.result("called_back:async_after")["raw"])

    def test_a_crew_within_a_flow_that_lacks_an_input(self) -> None:
        error = self.error("called_back:MissingInFlow", {})
        self.assertEqual(error["kind"], "exception", error)

    # Inputs.

    def test_inputs_that_no_crew_can_take_are_rejected(self) -> None:
        child = self.child("offline:make")
        for value, path in (
            ("1" + "0" * 5000, "inputs.B"),
            ('[1, {"price": 1e999}]', "inputs.B[1].price"),
            ("-1e400", "inputs.B"),
            ('"a\\ud800b"', "inputs.B"),
            ('{"a b": ["\\udc00"]}', 'inputs.B["a b"][0]'),
        ):
            with self.subTest(path=path, value=value[:20]):
                error = self.run_text(child, '{"A": "a", "B": ' + value + "}")["error"]
                self.assertEqual((error["kind"], error["retryable"], error["detail"]["path"]), ("invalid_inputs", False, path))
                self.assertTrue(error["message"].startswith(path), error["message"])
        child.peer.close()

    def test_odd_inputs_that_a_crew_can_take(self) -> None:
        child = self.child("offline:make")
        for value in ('"a\\u0000b"', '"\\ud83d\\ude00"', "1" * 4000, "[" * 100 + "]" * 100, "1E+2", '"' + "x" * 100_000 + '"'):
            with self.subTest(value[:20]):
                answer = self.run_text(child, '{"A": ' + value + ', "A2": 1, "B": "b"}')
                self.assertEqual(answer["type"], "result", answer)

    def test_odd_meta_is_no_reason_to_die(self) -> None:
        child = self.child("offline:make")
        answer = self.run_text(child, json.dumps(INPUTS), meta="[" + "9" * 5000 + ', 1e999, "\\ud800"]')
        self.assertEqual(answer["type"], "result", answer)

    def run_text(self, child: FakeChild, inputs: str, meta: str = "null") -> dict:
        """One kickoff whose inputs and meta are this text, as a worker passes them on."""
        number = child.host.worker.next_id()
        place = os.path.join(child.host.worker.dir.name, f"odd-{number}")
        frame = {"type": "kickoff", "kickoff_id": f"odd-{number}", "attempt": 1, "redrive": 0, "work_dir": place}
        body = json.dumps(frame)[:-1] + f', "timeout_s": null, "inputs": {inputs}, "meta": {meta}' + "}"
        child.peer.socket.sendall(len(body).to_bytes(4, "big") + body.encode())
        return child.peer.expect("result", "error")

    def test_placeholders_that_are_none(self) -> None:
        self.assertEqual(self.error("naming:literal", {"A": "a"})["detail"]["missing_inputs"], ["first_name"])
        result = self.result("naming:literal", {"A": "alpha"}, inputs="lenient")
        self.assertIn("write to alpha, greet by {first_name}", result["raw"])
        self.assertIn("{A}", self.result("naming:literal", {}, inputs="lenient")["raw"])

    def test_the_inputs_in_the_name_of_a_file(self) -> None:
        child = self.child("naming:into_a_file")
        self.assertEqual(child.host.first["inputs"], ["A"])
        self.assertEqual(child.run({})["error"]["detail"]["missing_inputs"], ["A"])

    # Names.

    def test_no_prompt_and_no_input_is_a_name(self) -> None:
        child = self.child("naming:nameless")
        answer = child.run({"A": "alpha"}, traceparent="00-1-2-01")
        self.assertEqual([task["name"] for task in answer["result"]["tasks"]], ["task_1", "named"])
        events = [frame for frame in child.peer.skipped if frame["type"] == "event"]
        self.assertNotIn("private words", str(events))
        self.assertNotIn("alpha", str(events))
        started = [event for event in events if event["event_type"] == "task_started"]
        self.assertEqual([event["data"]["task"] for event in started], ["task_1", "named"])
        calls = [event for event in events if event["event_type"] == "llm_call_completed"]
        self.assertEqual([(event["data"]["task"], event["data"]["agent"]) for event in calls], [(name, "{A} researcher") for name in ("task_1", "named")])

    def test_no_prompt_is_in_an_error(self) -> None:
        child = self.child("naming:failing")
        error = child.run({"A": "alpha"})["error"]
        self.assertIn("cannot do: task_1", error["message"])
        self.assertNotIn("private words", error["detail"]["traceback"])
        self.assertNotIn("private words", str(child.peer.skipped))

    def test_no_prompt_of_task_or_agent_is_in_an_error_however_it_is_quoted(self) -> None:
        child = self.child("naming:quoting")
        error = child.run({"A": "alpha"})["error"]
        self.assertEqual(error["kind"], "exception", error)
        for said in (error["message"], error["detail"]["traceback"], str(child.peer.skipped)):
            self.assertNotIn("private", said)
        for shown in ("task_1", "(the expected output of task_1)", "(the goal of {A} researcher)", "(the backstory of {A} researcher)"):
            self.assertEqual(error["message"].count(shown), {"task_1": 9, "(the expected output of task_1)": 6}.get(shown, 3), error["message"])

    # Usage.

    def test_usage_that_only_events_or_only_counters_tell(self) -> None:
        self.worker.require("usage in its events")
        for target in ("counted_by_events", "counted_by_counter", "counted_by_copies", "CountedFlow"):
            with self.subTest(target):
                child = self.child(f"naming:{target}")
                for _ in range(2):
                    answer = child.run(INPUTS)
                    usage = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30, "successful_requests": 2}
                    self.assertEqual(answer["result"]["usage"], usage)
                    self.assertEqual(answer["tokens_by_model"], {"shared": {"prompt": 20, "completion": 10}})

    # What CrewAI shows of prompts and answers.

    def test_panels_are_printed_where_that_is_asked_for_and_nowhere_else(self) -> None:
        for target in ("offline:make", "flows:ThreadsFlow"):
            for verbose in (True, False):
                with self.subTest(target, verbose=verbose):
                    child = self.child(target, verbose_output=verbose)
                    self.assertEqual(child.run(INPUTS)["type"], "result")
                    child.peer.close()
                    stdout, _ = child.output()
                    panels = stdout.count("Final Answer")
                    self.assertEqual(panels > 0, verbose, stdout[-2000:])
                    if verbose and target == "flows:ThreadsFlow":
                        for name in ("in-a-thread", "pool-one", "pool-two", "here"):
                            self.assertIn(name, stdout)

    # Threads.

    def test_crews_in_threads_are_seen_and_counted(self) -> None:
        child = self.child("flows:ThreadsFlow")
        answer = child.run({})
        usage = answer["result"]["usage"]
        self.assertEqual((usage["successful_requests"], usage["total_tokens"]), (8, 120))
        types = [frame["event_type"] for frame in child.peer.skipped if frame["type"] == "event"]
        self.assertEqual([types.count(one) for one in ("crew_kickoff_started", "task_completed", "llm_call_completed")], [4, 8, 8])

    def test_crews_in_threads_are_stopped(self) -> None:
        self.worker.require("cancel hooks")
        child = self.child("flows:WaitingThreadsFlow")
        fifo = Fifo(self.worker.dir.name, "threads")
        child.kickoff({"A": f"FIFO={fifo.path} a", "B": "b"})
        child.peer.event("llm_call_started")
        child.peer.send({"type": "cancel"})
        fifo.release()
        answer = child.peer.expect("result", "error")
        self.assertEqual((answer["error"]["kind"], answer["usage"]["successful_requests"]), ("cancelled", 1))

    # Context.

    def test_a_prompt_longer_than_the_context(self) -> None:
        error = self.error("flows:exits_on_overflow")
        self.assertEqual((error["kind"], error["retryable"]), ("context_length_exceeded", False), error)
        self.assertIn("respect_context_window", error["message"])


if __name__ == "__main__":
    unittest.main()
