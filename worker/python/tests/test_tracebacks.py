"""What is said of errors in a crew's own code: where they are, and nothing of the host's."""

import os
import sys
import tempfile
import unittest

from fake_worker import FakeWorker

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

from crewfleet_host import tracebacks

CREW = """\
class Poet:
    def crew(self):
        return self

    def kickoff(self, inputs):
        try:
            self.ask()
        except ConnectionError as error:
            raise ValueError("my model went away") from error

    def ask(self):
        raise ConnectionError("no route")
"""
PYPROJECT = '[project]\nname = "poet"\n[project.scripts]\nrun_crew = "poet.main:run"\n[tool.crewai]\ntype = "crew"\n'
MAIN = "from poet.crew import Poet\n\n\ndef run():\n    Poet().crew().kickoff({})\n"


class ProjectTest(unittest.TestCase):
    """A project in a folder; no crewai is needed."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.worker = FakeWorker(with_crewai=False)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.worker.close()

    def setUp(self) -> None:
        made = tempfile.TemporaryDirectory(prefix="crewfleet-poet-")
        self.addCleanup(made.cleanup)
        self.folder = made.name
        self.write("pyproject.toml", PYPROJECT)
        self.write("src/poet/__init__.py", "")
        self.write("src/poet/main.py", MAIN)

    def write(self, name: str, text: str) -> None:
        place = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "w", encoding="utf-8") as file:
            file.write(text)

    def refusal(self, target: str | None = None) -> dict:
        checked = self.worker.check(target or self.folder, path=[os.path.join(self.folder, "src")])
        self.assertFalse(checked["ok"], checked)
        return checked["error"]

    def assert_of_the_crew(self, traceback: str) -> None:
        for theirs in ("crewfleet_host", "importlib"):
            self.assertNotIn(theirs, traceback)

    def test_a_file_that_cannot_be_parsed_is_named(self) -> None:
        self.write("src/poet/crew.py", f"{CREW}\n\ndef more(:\n")
        message = self.refusal()["message"]
        self.assertIn("says that this is a crew, and its script leads to a file that cannot be read: ", message)
        self.assertIn("src/poet/crew.py, line 15: SyntaxError: invalid syntax", message)
        self.assertNotIn("a target is", message)
        # Without a script, all files are looked at.
        self.write("pyproject.toml", '[tool.crewai]\ntype = "crew"\n')
        message = self.refusal()["message"]
        self.assertIn("/src, ", message)
        self.assertIn("where a file cannot be read: src/poet/crew.py, line 15: SyntaxError: invalid syntax", message)
        # Another crew that can be read is found all the same.
        self.write("src/poet/other.py", CREW)
        checked = self.worker.check(self.folder)
        self.assertTrue(checked["ok"], checked)

    def test_a_syntax_error_has_no_frames(self) -> None:
        self.write("src/poet/crew.py", "def more(:\n")
        error = self.refusal("poet.crew:Poet")
        self.assertIn("cannot be imported: SyntaxError: invalid syntax (src/poet/crew.py, line 1)", error["message"])
        self.assertNotIn("check target and path", error["message"])
        self.assert_of_the_crew(error["detail"])
        self.assertIn("def more(:", error["detail"])

    def test_what_an_import_raises_is_told_with_its_line(self) -> None:
        self.write("src/poet/crew.py", f"import poet.tools\n{CREW}")
        self.write("src/poet/tools.py", "\nraise RuntimeError('no key')\n")
        error = self.refusal()
        self.assertIn("cannot be imported: RuntimeError: no key (src/poet/tools.py, line 2)", error["message"])
        self.assertNotIn("check target and path", error["message"])
        self.assert_of_the_crew(error["detail"])
        lines = error["detail"].splitlines()
        self.assertEqual(len([line for line in lines if line.startswith("  File ")]), 2, error["detail"])

    def test_a_missing_module_comes_with_what_to_look_at(self) -> None:
        self.write("src/poet/crew.py", f"import no_such_module_here\n{CREW}")
        error = self.refusal()
        self.assertIn("ModuleNotFoundError: No module named 'no_such_module_here' (src/poet/crew.py, line 1)", error["message"])
        self.assertTrue(error["message"].endswith("has what it imports"), error["message"])
        self.assertIn(sys.executable, error["message"])
        self.assert_of_the_crew(error["detail"])

    def test_a_name_that_is_not_there_needs_no_such_advice(self) -> None:
        self.write("src/poet/crew.py", CREW)
        message = self.refusal("poet.crew:Pote")["message"]
        self.assertTrue(message.endswith('use "poet.crew:Poet"'), message)

    def test_what_building_raises_is_told_with_its_line(self) -> None:
        self.write("src/poet/crew.py", 'def build():\n    x = {}\n    return x["agents"]\n')
        error = self.refusal("poet.crew:build")
        self.assertIn("building its crew raised KeyError: 'agents' (src/poet/crew.py, line 3)", error["message"])
        self.assert_of_the_crew(error["detail"])

    def test_what_a_kickoff_raises(self) -> None:
        self.write("src/poet/crew.py", CREW)
        child = self.worker.start_host(self.folder).start_child()
        error = child.run({})["error"]
        child.finish()
        self.assertEqual((error["kind"], error["message"]), ("exception", "my model went away"))
        self.assertEqual((error["detail"]["exception"], error["detail"]["place"]), ("ValueError", "src/poet/crew.py, line 9"))
        traceback = error["detail"]["traceback"]
        self.assert_of_the_crew(traceback)
        # The chain stays.
        self.assertIn("ConnectionError: no route", traceback)
        self.assertIn("direct cause", traceback)
        self.assertTrue(traceback.endswith("ValueError: my model went away\n"), traceback)


class PlaceTest(unittest.TestCase):
    """What is said where there is no line."""

    def test_an_error_without_a_traceback(self) -> None:
        self.assertEqual(tracebacks.headline(ValueError("no")), "ValueError: no")
        self.assertEqual(tracebacks.headline(ValueError()), "ValueError")
        self.assertEqual(tracebacks.formatted(ValueError("no")), "ValueError: no\n")


if __name__ == "__main__":
    unittest.main()
