"""The JSON Schema of inputs, as a check of a target tells it."""

import json
import os
import tempfile
import unittest

from fake_worker import CREWS, FakeWorker, shared_worker

SECRET = "a-key-that-nobody-may-see"


class SchemaTest(unittest.TestCase):
    """`schema` is what a check of a target tells."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.worker = shared_worker()

    def schema(self, target: str, **more: object) -> dict:
        checked = self.worker.check(target, **more)
        self.assertTrue(checked["ok"], checked)
        self.assertIsNotNone(checked["inputs_schema"], checked)
        schema = json.loads(checked["inputs_schema"])
        self.assertEqual(schema["type"], "object")
        return schema

    def tells_none(self, target: str, *, note: str | None = None, **more: object) -> None:
        checked = self.worker.check(target, **more)
        self.assertEqual((checked["ok"], checked["inputs_schema"]), (True, None), checked)
        notes = [text for text in checked["notes"] if "JSON Schema" in text]
        self.assertEqual(len(notes), 1 if note else 0, notes)
        if note:
            self.assertIn(note, notes[0])


class FlowTest(SchemaTest):
    """A flow tells the model of its state."""

    def test_the_fields_of_the_state_in_the_author_s_order_and_words(self) -> None:
        schema = self.schema("typed:OrderFlow")
        # Without the id, which is CrewAI's, and without what no caller can send.
        self.assertEqual(list(schema["properties"]), ["product", "size", "shelves", "key", "place", "password", "limit"])
        self.assertEqual(schema["properties"]["product"], {"title": "Product", "type": "string", "default": "", "description": "Its name", "minLength": 1})
        self.assertEqual((schema["properties"]["size"]["enum"], schema["properties"]["size"]["default"]), (["small", "large"], "small"))
        self.assertEqual((schema["title"], schema["description"], schema["required"]), ("Order", "What is ordered.", []))
        self.assertEqual(list(schema["$defs"]), ["Shelf"])
        self.assertEqual(schema["properties"]["shelves"]["items"], {"$ref": "#/$defs/Shelf"})
        # JSON has no infinity.
        self.assertNotIn("default", schema["properties"]["limit"])

    def test_an_id_of_the_author_s_stays(self) -> None:
        self.assertEqual(list(self.schema("typed:NumberedFlow")["properties"]), ["id", "product"])

    def test_a_state_that_is_derived_from_crewai_s_and_is_in_itself(self) -> None:
        schema = self.schema("typed:DerivedFlow")
        self.assertEqual((schema["title"], list(schema["properties"])), ("Derived", ["product", "next"]))
        self.assertIn({"$ref": "#/$defs/Derived"}, schema["properties"]["next"]["anyOf"])
        self.assertIn("Derived", schema["$defs"])

    def test_what_the_first_state_has_need_not_be_sent(self) -> None:
        schema = self.schema("typed:GivenFlow")
        self.assertEqual((list(schema["properties"]), schema["required"]), (["product", "count"], []))

    def test_a_flow_that_a_file_defines(self) -> None:
        self.worker.require("flow definitions")
        state = {
            "type": "json_schema",
            "json_schema": {
                "title": "Said",
                "type": "object",
                "properties": {"topic": {"type": "string", "description": "About what"}, "tone": {"type": "string"}},
                "required": ["topic", "tone"],
            },
            "default": {"tone": "dry"},
        }
        methods = {"begin": {"start": True, "do": {"call": "expression", "expr": "state.topic"}}}
        with tempfile.TemporaryDirectory(prefix="crewfleet-test-") as folder:
            for name, of_state in (("typed", state), ("untyped", {"type": "dict", "default": {"topic": "AI"}})):
                with open(os.path.join(folder, f"{name}.yaml"), "w", encoding="ascii") as file:
                    json.dump({"schema": "crewai.flow/v1", "name": "Said", "state": of_state, "methods": methods}, file)
            schema = self.schema("typed.yaml", path=[folder])
            self.assertEqual((list(schema["properties"]), schema["required"]), (["topic", "tone"], ["topic"]))
            self.assertEqual(schema["properties"]["topic"]["description"], "About what")
            self.tells_none("untyped.yaml", path=[folder])

    def test_a_state_without_types_tells_nothing(self) -> None:
        self.tells_none("typed:DictFlow")

    def test_one_that_is_too_large_or_fails_is_left_out_with_a_word(self) -> None:
        self.tells_none("typed:LargeFlow", note="more than 65536, and is left out; name a file with one by inputs_schema")
        self.tells_none("typed:BrokenFlow", note="cannot be made, and is left out: RuntimeError: no schema today")

    def test_none_is_made_where_none_is_wanted(self) -> None:
        self.tells_none("typed:LargeFlow", tell_schema=False)


class SecretTest(SchemaTest):
    """What a state has from the environment, and a password, is in no schema."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.worker = FakeWorker(environ={"TYPED_KEY": SECRET})
        cls.addClassCleanup(cls.worker.close)

    def test_no_default_tells_a_secret(self) -> None:
        schema = self.schema("typed:OrderFlow")
        self.assertNotIn(SECRET, json.dumps(schema))
        for name in ("key", "place", "password"):
            self.assertNotIn("default", schema["properties"][name], name)
        self.assertEqual((schema["properties"]["password"]["format"], schema["properties"]["size"]["default"]), ("password", "small"))


class ParametersTest(SchemaTest):
    """A factory tells the types of its parameters."""

    def test_required_ones(self) -> None:
        schema = self.schema("typed:of_flow")
        self.assertEqual((list(schema["properties"]), schema["required"], list(schema["$defs"])), (["tone", "shelf"], ["tone"], ["Shelf"]))
        self.assertEqual(schema["properties"]["tone"], {"title": "Tone", "type": "string", "enum": ["dry", "warm"]})

    def test_beside_the_state_of_the_flow(self) -> None:
        schema = self.schema("typed:optional_of_flow")
        self.assertEqual((list(schema["properties"]), schema["required"]), (["tone", "copy", "product", "count"], []))
        self.assertEqual(schema["properties"]["tone"], {"title": "Tone", "type": "string", "description": "How it sounds", "default": "dry"})

    def test_beside_the_names_in_the_crew_s_texts(self) -> None:
        schema = self.schema("typed:of_crew")
        self.assertEqual(schema["properties"], {"A": {"title": "A", "type": "integer", "default": 3}, "B": {}})
        self.assertEqual(schema["required"], ["A", "B"])

    def test_types_that_are_not_there_are_any(self) -> None:
        schema = self.schema("typed:unknown")
        self.assertEqual(list(schema["properties"])[:2], ["tone", "model_config"])
        self.assertNotIn("type", schema["properties"]["tone"])

    def test_names_alone_are_no_schema(self) -> None:
        self.tells_none("typed:untyped")
        self.tells_none("offline:make")


class AgentTest(SchemaTest):
    """An agent takes messages."""

    def test_an_agent(self) -> None:
        schema = self.schema("shop.factories:clerk", path=[os.path.join(CREWS, "shop", "src"), CREWS])
        self.assertEqual((list(schema["properties"]), schema["required"]), (["messages"], ["messages"]))


if __name__ == "__main__":
    unittest.main()
