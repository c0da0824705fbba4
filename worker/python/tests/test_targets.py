"""Every shape that a target may have, and every refusal, with a project as `crewai create` lays one out."""

import json
import os
import shutil
import tempfile
import unittest

from fake_worker import CREWS, FULL, seldom, shared_worker

SHOP = os.path.join(CREWS, "shop")
PATH = [os.path.join(SHOP, "src"), CREWS]


class ShopTest(unittest.TestCase):
    """The shared fork server; `marks` are the lines that the project's code left."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.worker = shared_worker()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.worker.end_hosts()

    def setUp(self) -> None:
        self.marks()

    def marks(self) -> list[str]:
        """The lines since the last call."""
        if not os.path.exists(self.worker.marks):
            return []
        with open(self.worker.marks, encoding="ascii") as file:
            lines = file.read().split()
        os.unlink(self.worker.marks)
        return lines

    def check(self, target: str, **more: object) -> dict:
        return self.worker.check(target, **{"path": PATH, **more})

    def refusal(self, target: str, **more: object) -> str:
        checked = self.check(target, **more)
        self.assertFalse(checked["ok"], checked)
        return checked["error"]["message"]

    def child(self, target: str, **more: object):
        host = self.worker.start_host(target, **{"path": PATH, **more})
        self.assertEqual(host.first["type"], "ready", host.first)
        child = host.start_child()
        self.assertEqual(child.first["type"], "hello", child.first)
        return child

    def raw(self, target: str, inputs: dict, **more: object) -> str:
        """What one kickoff gives."""
        child = self.child(target, **more)
        answer = child.run(inputs)
        self.assertEqual(answer["type"], "result", answer)
        child.finish()
        return answer["result"]["raw"]

    def error(self, target: str, inputs: dict) -> dict:
        child = self.child(target)
        answer = child.run(inputs)
        self.assertEqual(answer["type"], "error", answer)
        child.finish()
        return answer["error"]


class GrammarTest(ShopTest):
    """The forms of a name."""

    def test_each_form_of_the_same_crew(self) -> None:
        for target in (
            "shop.crew:ShopCrew",
            "shop.crew",
            "shop/crew.py",
            "shop/crew.py:ShopCrew",
            "src/shop/crew.py:ShopCrew",
            os.path.join(SHOP, "src", "shop", "crew.py"),
            SHOP,
        ):
            with self.subTest(target):
                checked = self.check(target)
                self.assertEqual((checked["ok"], checked.get("inputs")), (True, ["goods"]), checked)

    def test_a_path_is_the_worker_s_wherever_the_crew_stands(self) -> None:
        here = os.path.relpath(os.path.join(SHOP, "src", "shop", "crew.py"))
        # Children that are spawned import CrewAI anew.
        for isolation in ("fork", "spawn") if FULL else ("fork",):
            host = self.worker.start_host(f"{here}:ShopCrew", path=[CREWS], isolation=isolation)
            self.assertEqual((host.first["type"], host.first.get("working_dir")), ("ready", os.path.realpath(SHOP)), host.first)
            child = host.start_child()
            self.assertIn("say apples", child.run({"goods": "apples"})["result"]["raw"])
            child.finish()

    def test_a_file_is_found_without_a_path(self) -> None:
        child = self.child(os.path.join(SHOP, "src", "shop", "crew.py") + ":ShopCrew", path=[CREWS])
        self.assertIn("say apples", child.run({"goods": "apples"})["result"]["raw"])
        child.finish()

    def test_a_folder_runs_what_its_script_runs(self) -> None:
        self.assertIn("say apples", self.raw(SHOP, {"goods": "apples"}))
        self.assertEqual(self.marks(), [])

    def test_a_flow_s_folder(self) -> None:
        with self.project({"type": "flow"}, scripts={"kickoff": "shop.main:through_asyncio"}) as folder:
            self.assertEqual(self.raw(folder, {"goods": "apples"}, path=[CREWS]), "welcome apples")

    @seldom
    def test_a_folder_with_a_definition(self) -> None:
        self.worker.require("flow definitions")
        flow = {
            "schema": "crewai.flow/v1",
            "name": "Said",
            "state": {"type": "dict", "default": {"topic": "AI"}},
            "methods": {"begin": {"start": True, "do": {"call": "expression", "expr": "state.topic"}}},
        }
        with self.project({"type": "flow", "definition": "src/said.yaml"}) as folder:
            with open(os.path.join(folder, "src", "said.yaml"), "w", encoding="ascii") as file:
                json.dump(flow, file)  # JSON is YAML
            self.assertEqual(self.raw(folder, {}, path=[CREWS]), "AI")
            self.assertEqual(self.raw("said.yaml", {"topic": "whales"}, path=[os.path.join(folder, "src")]), "whales")
            # A typed state has fields that must be given.
            flow["state"] = {"type": "json_schema", "json_schema": {"type": "object", "properties": {"topic": {"type": "string"}}, "required": ["topic"]}}
            with open(os.path.join(folder, "src", "said.yaml"), "w", encoding="ascii") as file:
                json.dump(flow, file)
            self.assertEqual(self.check(folder)["inputs"], ["topic"])
            self.assertEqual(self.error(folder, {})["detail"]["missing_inputs"], ["topic"])
            self.assertEqual(self.raw(folder, {"topic": "whales"}), "whales")
        with self.project({"type": "crew", "definition": "missing.jsonc"}) as folder:
            self.assertIn('definition = "missing.jsonc" names no file', self.refusal(folder, path=[CREWS]))

    def test_a_folder_that_does_not_say_which(self) -> None:
        with self.project({}) as folder:
            message = self.refusal(folder, path=[CREWS])
            self.assertIn("has no [tool.crewai]", message)
            self.assertIn('"shop.crew:ShopCrew"', message)
        with self.project({"type": "crew"}, scripts={"run_crew": "shop.main:missing"}) as folder:
            self.assertRegex(self.refusal(folder, path=[CREWS]), r'says that this is a crew, and there are \d+; use one of "shop\.')

    def test_a_module_with_several_names_them(self) -> None:
        self.assertIn('is a module with 2 that could be kicked off; use one of "shop.two:FirstCrew", "shop.two:SecondCrew"', self.refusal("shop.two"))

    def test_every_refusal_names_what_is_there(self) -> None:
        for target, expected in {
            "shop.crew:ShopCru": 'crew.py has no "ShopCru"; use "shop.crew:ShopCrew"',
            "crew:ShopCrew": 'there is no module "crew" in',
            "src.shop.crew:ShopCrew": 'use "shop.crew:ShopCrew"',
            "shop.crows:ShopCrew": 'use "shop.crew:ShopCrew"',
            "shop.main:INPUTS": "an object of builtins.dict, which makes no crew; use ",
            "shop.main:helpers": "is a module; use ",
            "shop.kept_flow:flow_instance": 'use its class, "shop.factories:FieldsFlow"',
            "shop.factories:Flow": "is CrewAI's own class Flow; use ",
            "shop.factories:nothing": "gave None, which has no kickoff method; a factory must return a crew, a flow or an agent; use ",
            "parrots.yaml": "no such file; looked for",
            "shop crew": "none of the forms",
            "shop.crew:": "none of the forms",
            "": "the target is empty",
            "./nowhere": "no such file or folder",
        }.items():
            with self.subTest(target):
                self.assertIn(expected, self.refusal(target))

    def project(self, crewai: dict, scripts: dict | None = None) -> "Project":
        return Project(crewai, scripts or {})


class Project:
    """A copy of the shop with another pyproject.toml; a context manager that gives its folder."""

    def __init__(self, crewai: dict, scripts: dict) -> None:
        self._dir = tempfile.TemporaryDirectory(prefix="crewfleet-project-")
        shutil.copytree(os.path.join(SHOP, "src"), os.path.join(self._dir.name, "src"))
        tables = {"project": {"name": "shop"}, "project.scripts": scripts, "tool.crewai": crewai}
        with open(os.path.join(self._dir.name, "pyproject.toml"), "w", encoding="ascii") as file:
            for table, values in tables.items():
                lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
                file.write(f"[{table}]\n{lines}" if values else "")

    def __enter__(self) -> str:
        return self._dir.name

    def __exit__(self, *_: object) -> None:
        self._dir.cleanup()


class EntryPointTest(ShopTest):
    """What runs a crew is no target, and is not called."""

    def test_they_are_refused_uncalled(self) -> None:
        for name, expected in {
            "run": "runs a crew itself (kickoff in {main}, line 22), and was not called; a target makes a crew, and each kickoff runs it;"
            ' use "shop.crew:ShopCrew"',
            "train": 'use "shop.crew:ShopCrew"',
            "plot": 'use "shop.agency.desk:DeskFlow"',
            "through_asyncio": 'use "shop.agency.desk:DeskFlow"',
            "through_a_helper": "helpers.py, line 5",
            "by_a_method": "main.py, line 62",
        }.items():
            with self.subTest(name):
                self.assertIn(expected.format(main=os.path.join(SHOP, "src", "shop", "main.py")), self.refusal(f"shop.main:{name}"))
                host = self.worker.start_host(f"shop.main:{name}", path=PATH)
                self.assertEqual(host.first["error"]["kind"], "import_failed")
                self.assertEqual(self.worker.exited()["pid"], host.pid)
                self.assertEqual(self.marks(), [])

    def test_a_class_that_runs_its_crew_is_told_how(self) -> None:
        self.assertIn("it runs one in its method start(): give it a method crew()", self.refusal("shop.main:Runner"))

    def test_what_cannot_be_read_is_stopped(self) -> None:
        message = self.refusal("shop.main:hidden_from_readers")
        self.assertRegex(message, r"building the crew of .* ran one: in .*main\.py, line 54, Crew\.kickoff was called")
        self.assertTrue(message.endswith('no model was reached; use "shop.crew:ShopCrew"'), message)

    def test_a_factory_with_a_tool_that_runs_a_crew_is_none(self) -> None:
        self.assertIn("say outer", self.raw("shop.factories:with_a_tool", {}))


class GuardTest(ShopTest):
    """Importing and building runs nothing."""

    def test_a_kickoff_at_import(self) -> None:
        for module, expected in {
            "unguarded:crew": r"importing shop\.unguarded ran a crew: in .*unguarded\.py, line 7, Crew\.kickoff was called\."
            r" Put that under `if __name__ == \"__main__\":`",
            "unguarded_flow:DeskFlow": r"unguarded_flow\.py, line 5, Flow\.kickoff was called",
            "unguarded_model:AnyCrew": r"importing shop\.unguarded_model called a model: in .*unguarded_model\.py, line 17, Late\.call was called",
        }.items():
            with self.subTest(module):
                self.assertRegex(self.refusal(f"shop.{module}"), expected)
                host = self.worker.start_host(f"shop.{module}", path=PATH)
                self.assertEqual(host.first["error"]["kind"], "import_failed")
                self.assertEqual(self.worker.exited()["pid"], host.pid)
                # Where each child imports for itself, so does its guard.
                if FULL:
                    child = self.worker.start_host(f"shop.{module}", path=PATH, isolation="spawn").start_child()
                    self.assertEqual(child.first["error"]["kind"], "import_failed")
                    self.assertRegex(child.first["error"]["message"], expected)
                    self.assertEqual(child.host.exited()["pid"], child.pid)
                self.assertEqual(self.marks(), [])

    def test_a_model_that_is_asked_while_the_crew_is_built(self) -> None:
        self.assertRegex(self.refusal("shop.asks_while_it_builds:build"), r"asks_while_it_builds\.py, line 6, Parrot\.call was called")

    def test_afterwards_everything_runs(self) -> None:
        for isolation in ("fork", "spawn") if FULL else ("fork",):
            self.assertIn("say pears", self.raw("shop.crew:ShopCrew", {"goods": "pears"}, isolation=isolation))


class ParametersTest(ShopTest):
    """A factory is called with the kickoff's inputs."""

    def test_optional_parameters(self) -> None:
        checked = self.check("shop.factories:optional")
        self.assertEqual((checked["inputs"], checked["notes"]), (["goods"], []))
        child = self.child("shop.factories:optional")
        self.assertIn("say hello there pears", child.run({"goods": "pears"})["result"]["raw"])
        # The inputs of the factory are the crew's, too.
        self.assertIn("say hello Ada plums", child.run({"goods": "plums", "customer": "Ada"})["result"]["raw"])
        child.finish()

    def test_required_parameters(self) -> None:
        checked = self.check("shop.factories:required")
        self.assertEqual((checked["ok"], checked["inputs"]), (True, ["cities", "origin"]))
        self.assertIn("built with inputs of the kickoff (origin, cities), so nothing was built to check it", checked["notes"][0])
        inputs = {"origin": "Rome", "cities": ["Oslo"], "goods": "fish"}
        self.assertIn("say from Rome to ['Oslo'], dry fish", self.raw("shop.factories:required", inputs))
        error = self.error("shop.factories:required", {"origin": "Rome"})
        self.assertEqual((error["kind"], error["detail"]["missing_inputs"]), ("invalid_inputs", ["cities"]))
        error = self.error("shop.factories:required", {"origin": "Rome", "cities": []})
        self.assertEqual((error["kind"], error["detail"]["missing_inputs"]), ("invalid_inputs", ["goods"]))

    def test_other_signatures(self) -> None:
        trip = {"origin": "Rome", "cities": ["Oslo"]}
        for name, inputs, known, expected in (
            ("everything", trip, [], "all of ['cities', 'origin']"),
            ("as_dict", trip, None, "dict of ['cities', 'origin']"),
            ("by_position", trip, ["cities", "origin"], "from Rome to ['Oslo']"),
            ("awaited", trip, [], "async from Rome"),
            ("half", {**trip, "goods": "fish"}, ["cities"], "from Lisbon to ['Oslo'], warm fish"),
            ("TripCrew", trip, ["origin"], "trip from Rome to ['Oslo']"),
            ("WithInit", trip, ["origin"], "init with Rome"),
        ):
            with self.subTest(name):
                self.assertEqual(self.check(f"shop.factories:{name}")["inputs"], known)
                self.assertIn(f"say {expected}", self.raw(f"shop.factories:{name}", inputs))

    def test_a_flow_s_own_parameters_are_no_inputs(self) -> None:
        raw = self.raw("shop.factories:FieldsFlow", {"tracing": "t", "persistence": "p"})
        self.assertEqual(json.loads(raw), {"tracing": "t", "persistence": "p"})

    def test_a_cached_factory_gives_copies(self) -> None:
        for isolation in ("fork", "spawn") if FULL else ("fork",):
            child = self.child("shop.factories:cached", isolation=isolation)
            for inputs in ({"goods": "figs"}, {"goods": "nuts", "origin": "b"}, {"goods": "figs"}, {"goods": "dates", "origin": "b"}):
                self.assertIn(f"cached from {inputs.get('origin', 'a')} {inputs['goods']}", child.run(inputs)["result"]["raw"])
            child.finish()

    def test_how_often_a_factory_is_called(self) -> None:
        self.check("shop.factories:counted")
        self.assertEqual(len(self.marks()), 1)
        child = self.child("shop.factories:counted")
        self.assertLessEqual(len(self.marks()), 2)
        for _ in range(2):
            self.assertEqual(child.run({"goods": "figs"})["type"], "result")
            self.assertEqual(len(self.marks()), 1)
        child.finish()


class AgentTest(ShopTest):
    """An agent has no tasks: it is asked by messages."""

    def test_an_agent_answers_messages(self) -> None:
        for target in ("shop.factories:clerk", "shop.factories:make_clerk", "shop.lite:clerk"):
            with self.subTest(target):
                self.assertEqual(self.check(target)["inputs"], ["messages"])
                child = self.child(target)
                self.assertIn("what is open?", child.run({"messages": "what is open?"})["result"]["raw"])
                if not child.ended()["reusable"]:  # an older agent opens a memory, whose thread it leaves
                    child = self.child(target)
                answer = child.run({"messages": [{"role": "user", "content": "and now?"}]})
                self.assertIn("and now?", answer["result"]["raw"])
                self.assertNotIn("what is open?", answer["result"]["raw"])
                child.finish()

    def test_what_is_no_message_is_refused(self) -> None:
        for inputs, expected in (
            ({}, "the crew needs an input that is missing: messages"),
            ({"topic": "x"}, "the crew needs an input that is missing: messages"),
            ({"messages": "x", "topic": "x"}, "takes the input messages alone; leave out topic"),
            ({"messages": ""}, "it is an empty str"),
            ({"messages": 7}, "it is of type int"),
            ({"messages": ["secret"]}, "it is a list with something else in it"),
        ):
            with self.subTest(inputs):
                error = self.error("shop.factories:clerk", inputs)
                self.assertEqual(error["kind"], "invalid_inputs")
                self.assertIn(expected, error["message"])


if __name__ == "__main__":
    unittest.main()
