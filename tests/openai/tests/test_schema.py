"""Values for schemas: each is found valid by jsonschema inside of `value_for`, so a value is a fitting one."""

import re
import unittest
from enum import Enum
from typing import Annotated, Literal

from model_server.rules import BadRule, Rules
from model_server.schema import Unsatisfiable, value_for
from pydantic import BaseModel, Field


class Colour(Enum):
    red = "red"
    blue = "blue"


class Leaf(BaseModel):
    kind: Literal["leaf"] = "leaf"
    weight: Annotated[float, Field(gt=0.0, lt=0.5)]


class Tree(BaseModel):
    kind: Literal["tree"] = "tree"
    name: Annotated[str, Field(min_length=30, max_length=40)]
    colour: Colour
    children: "list[Tree]" = []
    parent: "Tree | None" = None
    part: Leaf | int
    scores: Annotated["list[int]", Field(min_length=3, max_length=3)]
    tags: "set[Literal['a', 'b', 'c']]"
    notes: "dict[str, int]"
    pair: "tuple[int, str]"


class Fitting(unittest.TestCase):
    def test_a_model_with_all_sorts_of_fields_is_met(self):
        tree = Tree.model_validate(value_for(Tree.model_json_schema(), "w"))
        self.assertEqual(len(tree.scores), 3)
        self.assertTrue(tree.children and tree.notes and tree.tags)

    def test_schemas_by_hand(self):
        for schema in (
            {},
            {"type": ["null", "string"], "maxLength": 3},
            {"type": "integer", "exclusiveMinimum": 3, "multipleOf": 5},
            {"type": "number", "maximum": -3},
            {"type": "integer", "maximum": 4, "multipleOf": 3},
            {"type": "string", "format": "date-time"},
            {"allOf": [{"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}, {"required": ["b"], "properties": {"b": {"type": "null"}}}]},
            {"oneOf": [{"type": "null"}, {"type": "integer", "minimum": 9}]},
            {"type": "object", "additionalProperties": {"type": "boolean"}, "minProperties": 3},
            {"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "minItems": 4},
            {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
            {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"enum": ["x"]}}},
        ):
            with self.subTest(schema):
                value_for(schema, "w")
                self.assertEqual(value_for(schema, "w"), value_for(schema, "w"))

    def test_patterns(self):
        for pattern in (r"^\d{3}-[A-Z]{2}$", r"^(foo|bar)+$", r"[^a]\s\S\W", r"^(a)\1{2}$", r"^[a-f0-9]{8}$", r"^\+?\d+(\.\d*)?$"):
            with self.subTest(pattern):
                self.assertRegex(value_for({"type": "string", "pattern": pattern}, "w"), re.compile(pattern))
        self.assertGreaterEqual(len(value_for({"type": "string", "pattern": r"^[a-z]+$", "minLength": 12}, "w")), 12)

    def test_what_nothing_fits(self):
        endless = {"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"]}}}
        schema: dict
        for schema in (endless, {"type": "string", "pattern": "(?!)"}, {"$ref": "#/$defs/none"}, {"type": "what"}, {"not": {}}):
            with self.subTest(schema), self.assertRaises(Unsatisfiable):
                value_for(schema, "w")


class RuleWords(unittest.TestCase):
    def test_rules_that_make_no_sense_are_named(self):
        for spec in ({"say": "x", "json": 1}, {"match": "x"}, {"say": "x", "mach": "y"}, {"say": "x", "match": "("}):
            with self.subTest(spec), self.assertRaisesRegex(BadRule, "rule 1"):
                Rules([spec])
