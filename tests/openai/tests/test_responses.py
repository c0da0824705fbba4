"""The Responses API and embeddings, through OpenAI's own client."""

import json

import openai
from pydantic import BaseModel

from .running import ServerTest

LOOK_UP = {"type": "function", "name": "look_up", "parameters": {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]}}


class City(BaseModel):
    name: str
    people: int


class Responses(ServerTest):
    def test_texts_and_streams(self):
        whole = self.client.responses.create(model="gpt-4o", input="order-mark-3", instructions="be short")
        self.assertIn("order-mark-3", whole.output_text)
        self.assertEqual(whole.usage.total_tokens, whole.usage.input_tokens + whole.usage.output_tokens)
        with self.client.responses.stream(model="gpt-4o", input="order-mark-3", instructions="be short") as stream:
            events = list(stream)
            self.assertEqual(stream.get_final_response().output_text, whole.output_text)
        deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        self.assertEqual(deltas, whole.output_text)
        counted = self.client.responses.input_tokens.count(model="gpt-4o", input="two words")
        self.assertEqual(counted.input_tokens, 2)

    def test_a_schema_is_met(self):
        self.assertEqual(self.client.responses.parse(model="gpt-4o", input="x", text_format=City).output_parsed.people, 7)

    def test_an_answer_ends_at_its_limit(self):
        cut = self.client.responses.create(model="gpt-4o", input="x", max_output_tokens=2)
        self.assertEqual((cut.status, cut.incomplete_details.reason), ("incomplete", "max_output_tokens"))

    def test_tools(self):
        asked = [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]
        call = self.client.responses.create(model="gpt-4o", input=asked, tools=[LOOK_UP], tool_choice="required").output[0]
        self.assertEqual((call.type, call.name, list(json.loads(call.arguments))), ("function_call", "look_up", ["what"]))
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "found"}
        done = self.client.responses.create(model="gpt-4o", input=[*asked, call.model_dump(), result], tools=[LOOK_UP])
        self.assertTrue(done.output_text)
        with self.client.responses.stream(model="gpt-4o", input=asked, tools=[LOOK_UP], tool_choice={"type": "function", "name": "look_up"}) as stream:
            pieces = "".join(event.delta for event in stream if event.type == "response.function_call_arguments.delta")
            self.assertEqual(pieces, stream.get_final_response().output[0].arguments)


class Embeddings(ServerTest):
    def embed(self, text, model="text-embedding-3-small", **options):
        return [item.embedding for item in self.client.embeddings.create(model=model, input=text, **options).data]

    def test_dimensions_and_forms(self):
        self.assertEqual([len(self.embed("x", model)[0]) for model in ("text-embedding-3-large", "text-embedding-ada-002", "other")], [3072, 1536, 1536])
        self.assertEqual(len(self.embed("x", dimensions=10)[0]), 10)
        numbers, packed = self.embed("x", encoding_format="float")[0], self.embed("x", encoding_format="base64")[0]
        self.assertIsInstance(packed, str)
        for one, other in zip(numbers, self.embed("x")[0], strict=True):
            self.assertAlmostEqual(one, other, places=6)
        self.assertEqual(len(self.embed([[1, 2], [3]])), 2)

    def test_the_same_text_is_nearest_and_shared_words_are_near(self):
        lamps, same, near, far = self.embed(["red lamps", "red lamps", "blue lamps", "old trains"])

        def likeness(other):
            return sum(a * b for a, b in zip(lamps, other, strict=True))

        self.assertAlmostEqual(likeness(same), 1.0, places=5)
        self.assertGreater(likeness(near), 0.3)
        self.assertLess(likeness(far), 0.2)

    def test_nothing_to_embed(self):
        for wrong in ("", [], ["a", ""]):
            with self.assertRaises(openai.BadRequestError):
                self.embed(wrong)
