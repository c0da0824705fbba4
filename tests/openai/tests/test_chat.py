"""Chat completions, through OpenAI's own client."""

import json

import openai
from pydantic import BaseModel

from .running import ServerTest

LOOK_UP = {
    "type": "function",
    "function": {"name": "look_up", "parameters": {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]}},
}
COUNT = {
    "type": "function",
    "function": {"name": "count", "parameters": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]}},
}


class Verdict(BaseModel):
    valid: bool
    reason: "str | None"
    scores: "list[int]"


class Answers(ServerTest):
    def test_the_same_call_has_the_same_answer_and_another_another(self):
        one, same, other = self.ask("order-mark-17 please"), self.ask("order-mark-17 please"), self.ask("order-mark-18 please")
        self.assertEqual(one.model_dump(), same.model_dump())
        self.assertIn("order-mark-17", one.choices[0].message.content)
        self.assertNotIn("order-mark-17", other.choices[0].message.content)
        self.assertEqual(one.choices[0].finish_reason, "stop")

    def test_times_and_ids_change_no_answer(self):
        one = self.ask("at 2025-01-02T03:04:05 id 0b9e6f4e-8c1f-4a52-9d57-3d5c2d8f1a11")
        other = self.ask("at 2026-05-06T07:08:09 id 11111111-8c1f-4a52-9d57-3d5c2d8f1a11")
        self.assertEqual(one.choices[0].message.content, other.choices[0].message.content)

    def test_usage_adds_up(self):
        usage = self.ask("four words are here").usage
        self.assertEqual(usage.prompt_tokens, 4)
        self.assertGreater(usage.completion_tokens, 4)
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)

    def test_a_stream_is_the_answer_in_pieces_with_its_usage(self):
        whole = self.ask("tell me")
        chunks = list(self.ask("tell me", stream=True, stream_options={"include_usage": True}))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        self.assertGreater(len(chunks), 5)
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(chunks[-1].usage, whole.usage)
        self.assertTrue(all(chunk.usage is None for chunk in self.ask("tell me", stream=True)))

    def test_an_answer_ends_at_its_limit_and_at_a_stop_word(self):
        self.assertEqual(self.ask("tell me", max_tokens=2).choices[0].finish_reason, "length")
        self.assertEqual(self.ask("tell me", max_tokens=2).usage.completion_tokens, 2)
        self.assertNotIn("asked", self.ask("tell me", stop=["asked"]).choices[0].message.content)

    def test_a_schema_is_met_also_in_a_stream(self):
        messages = [{"role": "user", "content": "judge"}]
        parsed = self.client.chat.completions.parse(model="gpt-4o", messages=messages, response_format=Verdict)
        self.assertIs(parsed.choices[0].message.parsed.valid, True)
        with self.client.chat.completions.stream(model="gpt-4o", messages=messages, response_format=Verdict) as stream:
            self.assertEqual(stream.get_final_completion().choices[0].message.parsed, parsed.choices[0].message.parsed)
        self.assertIsInstance(json.loads(self.ask("x", response_format={"type": "json_object"}).choices[0].message.content), dict)

    def test_a_schema_that_nothing_fits_is_refused(self):
        wrong = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer", "minimum": 5, "maximum": 4}}}
        with self.assertRaisesRegex(openai.BadRequestError, "no value found"):
            self.ask("x", response_format=wrong)

    def test_tools_are_called_where_they_must_be(self):
        self.assertIsNone(self.ask("x", tools=[LOOK_UP]).choices[0].message.tool_calls)
        named = {"type": "function", "function": {"name": "count"}}
        made = self.ask("x", tools=[LOOK_UP, COUNT], tool_choice=named).choices[0]
        self.assertEqual([call.function.name for call in made.message.tool_calls], ["count"])
        self.assertEqual(json.loads(made.message.tool_calls[0].function.arguments), {"n": 3})
        self.assertEqual(made.finish_reason, "tool_calls")
        self.assertEqual(len(self.ask("x", tools=[LOOK_UP, COUNT], tool_choice="required").choices[0].message.tool_calls), 1)

    def test_tools_and_choices_put_into_words(self):
        prompt = (
            'Tool Name: look_up\nTool Arguments: {"properties": {"what": {"type": "string"}}, "required": ["what"]}\n'
            "Action: the action to take, only one name of [look_up, count], just the name\nFinal Answer: the answer"
        )
        self.assertIn("Final Answer: Answer", self.ask(prompt).choices[0].message.content)
        self.control("policy", {"tools": "first"})
        self.assertRegex(self.ask(prompt).choices[0].message.content, r'Action: look_up\nAction Input: \{"what": "what [0-9a-f]{12}"\}')
        seen = [{"role": "user", "content": prompt}, {"role": "assistant", "content": "Action: look_up\nObservation: found"}]
        self.assertIn("Final Answer: Answer", self.ask("", messages=seen).choices[0].message.content)
        schema = 'according to the following OpenAPI schema: {"type": "object", "properties": {"a": {"type": "integer"}}}'
        self.assertEqual(json.loads(self.ask(schema).choices[0].message.content), {"a": 7})
        self.assertIn("\nREADY: I am ready", self.ask("After your plan, state READY or NOT READY.").choices[0].message.content)
        self.assertEqual(self.ask("Feedback: ok\nPossible outcomes: approved, rejected\n").choices[0].message.content, "approved")

    def test_models_and_keys(self):
        self.assertIn("gpt-4o", [model.id for model in self.client.models.list()])
        self.assertEqual(self.client.models.retrieve("gpt-4o").id, "gpt-4o")
        with self.assertRaises(openai.AuthenticationError):
            self.client.models.list(extra_headers={"Authorization": "Basic x"})
        wrong: dict
        for wrong in ({"messages": []}, {"messages": [{"role": "user", "content": 3}]}, {"tools": [{"type": "function"}]}):
            with self.assertRaises(openai.BadRequestError):
                self.ask("x", **wrong)


class CallingAll(ServerTest):
    tools = "all"

    def test_all_tools_at_once_and_an_answer_when_they_have_answered(self):
        asked = [{"role": "user", "content": "x"}]
        message = self.ask("", messages=asked, tools=[LOOK_UP, COUNT]).choices[0].message
        self.assertEqual([call.function.name for call in message.tool_calls], ["look_up", "count"])
        chunks = self.ask("", messages=asked, tools=[LOOK_UP, COUNT], stream=True)
        parts = [part for chunk in chunks for choice in chunk.choices for part in choice.delta.tool_calls or ()]
        for index, call in enumerate(message.tool_calls):
            mine = [part for part in parts if part.index == index]
            self.assertEqual((mine[0].id, mine[0].function.name), (call.id, call.function.name))
            self.assertEqual("".join(part.function.arguments or "" for part in mine), call.function.arguments)
        results = [{"role": "tool", "tool_call_id": call.id, "content": "found"} for call in message.tool_calls]
        answered = self.ask("", messages=[*asked, message.model_dump(exclude_none=True), *results], tools=[LOOK_UP, COUNT])
        self.assertEqual(answered.choices[0].finish_reason, "stop")
        alone = self.ask("", messages=asked, tools=[LOOK_UP, COUNT], parallel_tool_calls=False)
        self.assertEqual(len(alone.choices[0].message.tool_calls), 1)
