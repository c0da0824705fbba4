"""What a child tells whole, for the webhooks that a request asks for."""

import json
import unittest

from fake_worker import shared_worker


class WebhooksTest(unittest.TestCase):
    """One fork server; a host for each target."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.worker = shared_worker()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.worker.end_hosts()

    def told(self, target: str, inputs: dict, *kinds: str) -> tuple[dict, list[dict], list[dict]]:
        child = self.worker.start_host(target).start_child()
        answer = child.run(inputs, **({"webhooks": list(kinds)} if kinds else {}))
        frames = child.peer.skipped
        child.finish()
        return answer, [frame for frame in frames if frame["type"] == "task"], [frame for frame in frames if frame["type"] == "step"]

    def test_tasks_are_told_whole(self) -> None:
        answer, tasks, steps = self.told("offline:make", {"A": "alpha", "B": "beta"}, "task")
        self.assertEqual(steps, [])
        of_result = answer["result"]["tasks"]
        self.assertEqual([task["name"] for task in tasks], ["one", "two"])
        for task, output in zip(tasks, of_result, strict=True):
            expected = {"description": output["description"], "expected_output": output["expected_output"], "agent": output["agent"]}
            self.assertEqual({name: task[name] for name in expected}, expected)
            self.assertEqual((task["output"], task["output_json"], task["truncated"]), (output["raw"], None, False))
            self.assertTrue(task["summary"].startswith(task["description"].split()[0]))

    def test_steps_have_the_prompt_the_thought_the_tool_and_what_came_of_it(self) -> None:
        answer, tasks, steps = self.told("telling:using_a_tool", {}, "step")
        self.assertEqual((answer["type"], tasks), ("result", []), answer)
        used, answered = steps
        self.assertEqual((used["thought"], used["tool"], used["result"]), ("I use a tool", "count", "3 letters"))
        self.assertEqual(used["tool_input"], {"word": "abc"})
        self.assertIn("count the letters", used["prompt"])
        self.assertEqual((answered["thought"], answered["tool"], answered["tool_input"]), ("I now know the final answer", None, None))
        self.assertEqual(answered["result"], "done")

    def test_nothing_is_told_where_nobody_asks(self) -> None:
        self.assertEqual(self.told("offline:make", {"A": "a", "B": "b"})[1:], ([], []))

    def test_the_authors_own_callbacks_are_called_as_before(self) -> None:
        without = self.told("telling:using_a_tool", {})[0]["result"]["raw"]
        answer, tasks, steps = self.told("telling:using_a_tool", {}, "step", "task")
        self.assertEqual(answer["result"]["raw"], without)
        self.assertEqual((json.loads(without)["task"], len(tasks), len(steps)), (1, 1, 2))

    def test_what_is_too_large_is_left_out(self) -> None:
        _, tasks, steps = self.told("scripted:saying", {"TEXT": str(300_000)}, "step", "task")
        small, large = tasks
        self.assertEqual((small["output"], small["truncated"]), ("done", False))
        self.assertEqual((large["output"], large["truncated"], large["agent"]), (None, True, "writer"))
        self.assertEqual([step["truncated"] for step in steps], [False, True])
