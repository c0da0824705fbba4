"""The comparison finds each kind of difference, and nothing where there is none."""

import dataclasses
import tempfile
import unittest
from pathlib import Path

from differences import differences
from outcome import File, Outcome, file_of, made, snapshot
from project import Edit, Project, WrongEdit


def crew(**changed):
    task = {"raw": "a text", "json": {"a": 1}}
    files = {"report.md": file_of(b"a report")}
    whole = Outcome("succeeded", None, None, "crew", "a text", {"a": 1}, [task], None, files, ["one", "two"], 10, 10)
    return dataclasses.replace(whole, **changed)


class Differences(unittest.TestCase):
    def assert_found(self, expected, home, fleet):
        found = differences(home, fleet)
        self.assertEqual(len(found), 1, found)
        self.assertIn(expected, found[0])

    def test_the_same(self):
        self.assertEqual(differences(crew(), crew()), [])

    def test_each_kind(self):
        for expected, changed in (
            ("status", {"status": "failed", "error": "ValueError: x"}),
            ("text", {"raw": "another"}),
            ("json", {"json": None}),
            ("number of tasks", {"tasks": []}),
            ("raw of task 1", {"tasks": [{"raw": "x", "json": {"a": 1}}]}),
            ("report.md: made at home, missing here", {"files": {}}),
            ("more.md: made here", {"files": {"report.md": file_of(b"a report"), "more.md": file_of(b"")}}),
            ("report.md: another content", {"files": {"report.md": file_of(b"other")}}),
            ("model calls: 2 at home, 3 here", {"calls": ["one", "two", "two"]}),
            ("own data.csv was changed", {"touched": ["data.csv"]}),
            ("usage: the reply says 9", {"usage": 9}),
        ):
            with self.subTest(expected):
                self.assert_found(expected, crew(), crew(**changed))

    def test_a_flow_that_returns_nothing_has_its_state_as_its_result(self):
        home = Outcome("succeeded", state={"id": "one", "post": "text"})
        self.assertEqual(differences(home, Outcome("succeeded", json={"id": "other", "post": "text"})), [])
        self.assert_found("state", home, Outcome("succeeded", raw="", json=None))

    def test_times_and_ids_in_files_are_no_difference_where_the_content_is_known(self):
        home = crew(files={"log": file_of(b"at 2025-01-02T03:04:05 done")})
        later = file_of(b"at 2026-01-02T03:04:05 done")
        self.assertEqual(differences(home, crew(files={"log": later})), [])
        self.assert_found("log: another content", home, crew(files={"log": File(later.sha256, None)}))


class Files(unittest.TestCase):
    def test_what_was_made_and_changed(self):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "same").write_text("x")
            (root / "changed").write_text("x")
            before = snapshot(root)
            (root / "changed").write_text("y")
            (root / "new").mkdir()
            (root / "new" / "file").write_text("z")
            (root / "__pycache__").mkdir()
            (root / "__pycache__" / "m.pyc").write_text("z")
            self.assertEqual(sorted(made(before, snapshot(root))), ["changed", "new/file"])

    def test_an_edit_that_does_not_fit_is_named(self):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "source"
            source.mkdir()
            (source / "m.py").write_text("import a\n")
            project = Project("p", source, edits=(Edit("m.py", "import a", "import b"),))
            project.copy_to(Path(folder) / "copy")
            self.assertEqual((Path(folder) / "copy" / "m.py").read_text(), "import b\n")
            wrong = Project("p", source, edits=(Edit("m.py", "import c", "import b"),))
            with self.assertRaisesRegex(WrongEdit, "p: m.py has no 'import c'"):
                wrong.copy_to(Path(folder) / "other")


if __name__ == "__main__":
    unittest.main()
