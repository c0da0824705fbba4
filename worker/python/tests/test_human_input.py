"""Whoever asks a person fails the kickoff, and is named. Real CrewAI, no network."""

import unittest

from fake_worker import shared_worker


class HumanInputTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.worker = shared_worker()
        cls.worker.require("cancel hooks")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.worker.end_hosts()

    def answer(self, target: str) -> dict:
        child = self.worker.start_host(target).start_child()
        answer = child.run({"A": "a", "B": "b"})
        child.finish()
        return answer

    def assert_needed(self, target: str, *parts: str) -> dict:
        answer = self.answer(target)
        self.assertEqual(answer["type"], "error", answer)
        error = answer["error"]
        self.assertEqual((error["kind"], error["retryable"]), ("human_input_needed", False), error)
        for part in parts:
            self.assertIn(part, error["message"])
        return answer

    def test_a_flow_that_asks(self) -> None:
        self.assert_needed("asking:AskingFlow", 'method "begin"')

    def test_a_flow_that_asks_for_some_time(self) -> None:
        self.assert_needed("asking:AskingWithTimeLimitFlow", 'method "begin"')

    def test_feedback_at_a_console(self) -> None:
        self.assert_needed("asking:FeedbackFlow", 'method "review"')

    def test_feedback_that_pauses_the_flow(self) -> None:
        self.assert_needed("asking:PausingFlow", 'method "review" of flow PausingFlow waits')

    def test_streaming_flows(self) -> None:
        self.assert_needed("asking:streaming_pausing_flow", 'method "review"')
        self.assert_needed("asking:streaming_asking_flow", 'method "begin"')

    def test_a_tool_that_reads_a_line_stops_the_crew_at_once(self) -> None:
        answer = self.assert_needed("asking:tool_crew", 'tool "approval"')
        self.assertEqual(answer["usage"]["successful_requests"], 1)

    def test_a_tool_that_expects_nobody_goes_on(self) -> None:
        for target in ("asking:polite_crew", "asking:quiet_crew"):
            answer = self.answer(target)
            self.assertEqual((answer["type"], answer.get("result", answer).get("raw")), ("result", "done"), answer)

    def test_a_task_that_asks_is_refused_before_it_costs_anything(self) -> None:
        answer = self.assert_needed("offline:make_human", 'task "one" has human_input=True')
        self.assertIsNone(answer["usage"])

    def test_a_conditional_task_asks_only_when_it_runs(self) -> None:
        self.assertEqual(self.answer("asking:conditional_crew")["type"], "result")
        answer = self.assert_needed("asking:conditional_crew_that_asks", 'task "ask" has human_input=True')
        self.assertEqual(answer["usage"]["successful_requests"], 3)

    def test_a_hook_that_asks(self) -> None:
        answer = self.assert_needed("asking:ApprovalHook")
        self.assertIsNone(answer["usage"])

    def test_a_target_without_crewai(self) -> None:
        self.assert_needed("asking:Plain", "asking.py")


if __name__ == "__main__":
    unittest.main()
