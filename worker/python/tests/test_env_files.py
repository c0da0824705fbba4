"""The worker reads env files as python-dotenv does: its corpus says what python-dotenv makes of each file."""

import importlib.metadata
import io
import json
import logging
import os
import unittest
from pathlib import Path
from unittest.mock import patch

CORPUS = Path(__file__).parents[2] / "tests" / "env_files.json"


class EnvFiles(unittest.TestCase):
    def test_the_corpus_says_what_python_dotenv_does(self):
        try:
            from dotenv.main import DotEnv
            from dotenv.parser import parse_stream
        except ImportError:
            self.skipTest("this interpreter has no python-dotenv")
        version = importlib.metadata.version("python-dotenv")
        if tuple(map(int, version.split(".")[:2])) < (1, 2):
            self.skipTest(f"python-dotenv {version} reads some of these files otherwise")
        logging.getLogger("dotenv.main").setLevel(logging.CRITICAL)
        for case in json.loads(CORPUS.read_text()):
            # As a file that is opened as text gives it.
            text = case["text"].replace("\r\n", "\n").replace("\r", "\n")
            with self.subTest(case["name"]), patch.dict(os.environ, case["environ"], clear=True):
                self.assertEqual(DotEnv(None, stream=io.StringIO(text)).dict(), case["values"])
                statements = [binding.original for binding in parse_stream(io.StringIO(text)) if binding.error]
                # Empty lines above belong to a statement there; the worker names the line that cannot be read.
                lines = [one.line + one.string[: -len(one.string.lstrip()) or None].count("\n") for one in statements]
                self.assertEqual(lines, case["error_lines"])


if __name__ == "__main__":
    unittest.main()
