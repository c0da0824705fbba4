"""Files among the inputs: their form, and what CrewAI gets of them."""

import base64
import importlib.util
import os
import sys
import unittest
from typing import Any

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

from crewfleet_host import errors, input_files
from fake_worker import shared_worker

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


def kickoff(inputs: dict | None = None, input_files: dict | None = None) -> Any:
    """As a crew's."""


def kickoff_of_old(inputs: dict | None = None) -> Any:
    """As a crew's before there were files."""


class Form(unittest.TestCase):
    def test_only_the_explicit_form_is_a_file(self) -> None:
        texts = {"A": "data:image/png;base64,iVBORw0=", "B": {"file": {"base64": ""}}, "C": ["$file"], "D": None, "E": "https://h/x.png"}
        self.assertEqual(input_files.split(texts), (texts, {}))
        self.assertEqual(input_files.split({"A": 1, "P": {"$file": {"url": "u"}}}), ({"A": 1}, {"P": {"url": "u"}}))
        self.assertEqual(input_files.for_crewai({}, kickoff_of_old), {})

    def test_what_cannot_be_names_the_input_and_shows_nothing(self) -> None:
        secret = "c2VjcmV0c2VjcmV0"
        for given, expected in (
            ({"$file": {"base64": secret}, "name": "x"}, 'has keys beside "$file"'),
            ({"$file": secret}, "is no file"),
            ({"$file": {}}, "is no file"),
            ({"$file": {"base64": secret, "url": "https://h/"}}, "is no file"),
            ({"$file": {"base64": secret + "!"}}, "is no base64"),
            ({"$file": {"base64": 1}}, 'has "base64" in "$file", which is no text'),
            ({"$file": {"base64": secret, "type": "image/png"}}, "unknown key"),
            ({"$file": {"base64": secret, "media_type": "png"}}, "has the media_type 'png'"),
            ({"$file": {"base64": secret, "name": "../x"}}, "without folders"),
            ({"$file": {"data_uri": "image/png," + secret}}, "has a data_uri that is none"),
            ({"$file": {"url": "file:///etc/passwd"}}, "neither https:// nor http://"),
        ):
            with self.subTest(expected), self.assertRaises(input_files.UnusableFile) as raised:
                _, files = input_files.split({"PHOTO": given})
                input_files._read("PHOTO", files["PHOTO"])
            described = errors.describe(raised.exception, cancelled=False)
            self.assertEqual((described["kind"], described["detail"]["path"]), ("invalid_inputs", "inputs.PHOTO"))
            self.assertIn(expected, described["message"])
            self.assertNotIn(secret, described["message"])

    def test_a_crew_that_takes_no_files_is_told_of_the_lowest_version(self) -> None:
        with self.assertRaisesRegex(input_files.UnusableFile, "inputs.PHOTO is a file, and what runs here takes none.*crewai 1.9 or later"):
            input_files.for_crewai({"PHOTO": {"url": "https://h/"}}, kickoff_of_old)


class WithCrewAI(unittest.TestCase):
    def setUp(self) -> None:
        try:
            import crewai_files
        except ImportError:
            with self.assertRaisesRegex(input_files.UnusableFile, r"crewai\[file-processing\]"):
                input_files.for_crewai({"PHOTO": {"url": "https://h/"}}, kickoff)
            self.skipTest("this interpreter has no crewai-files")
        self.crewai_files = crewai_files

    def test_each_form_becomes_the_file_that_it_is(self) -> None:
        text = base64.b64encode(PNG).decode()
        for given, kind, filename in (
            ({"base64": text, "media_type": "image/png", "name": "photo.png"}, "ImageFile", "photo.png"),
            ({"base64": text}, "ImageFile", "PHOTO"),
            ({"data_uri": f"data:image/png;base64,{text}"}, "ImageFile", "PHOTO.png"),
            ({"base64": base64.b64encode(b"%PDF-1.4\n").decode(), "media_type": "application/pdf"}, "PDFFile", "PHOTO.pdf"),
            ({"data_uri": "data:,a%20text"}, "TextFile", "PHOTO"),
        ):
            with self.subTest(kind=kind, filename=filename):
                file = input_files.for_crewai({"PHOTO": given}, kickoff)["PHOTO"]
                self.assertEqual((type(file).__name__, file.filename), (kind, filename))
        file = input_files.for_crewai({"PHOTO": {"base64": text}}, kickoff)["PHOTO"]
        self.assertEqual((file.read(), file.content_type), (PNG, "image/png"))
        by_url = input_files.for_crewai({"PHOTO": {"url": "https://h/photo.png"}}, kickoff)["PHOTO"]
        self.assertEqual((type(by_url).__name__, by_url.content_type), ("ImageFile", "image/png"))


class OfKickoffs(unittest.TestCase):
    def test_they_reach_the_model_or_the_kickoff_says_what_is_missing(self) -> None:
        if importlib.util.find_spec("crewai") is None:
            self.skipTest("this interpreter has no crewai")
        worker = shared_worker()
        self.addCleanup(worker.end_hosts)
        inputs = {"WHOM": "a child", "PHOTO": {"$file": {"base64": base64.b64encode(PNG).decode(), "media_type": "image/png"}}}
        missing = "crewai 1.9 or later" if worker.lacks("input files") else "crewai[file-processing]"
        for target in ("with_files:make", "with_files:LookingFlow"):
            with self.subTest(target):
                answer = worker.start_host(target).start_child().run(inputs)
                if importlib.util.find_spec("crewai_files") is None:
                    self.assertEqual(answer["error"]["kind"], "invalid_inputs", answer)
                    self.assertIn(missing, answer["error"]["message"])
                else:
                    self.assertEqual(answer["type"], "result", answer)
                    self.assertEqual(answer["result"]["raw"], f"PHOTO=ImageFile:{len(PNG)}")


if __name__ == "__main__":
    unittest.main()
