"""Starts the server as other tests do: as a process, by its command line."""

import json
import subprocess
import sys
import tempfile
import unittest
import urllib.request
from pathlib import Path
from typing import Any

import openai

SERVE = Path(__file__).resolve().parent.parent / "serve.py"


class ServerTest(unittest.TestCase):
    """Tests of a server that their class has for itself, as new for each test, by a client that doesn't retry. `rules` is
    the server's script, `tools` its policy."""

    rules: "list[dict[str, Any]]" = []
    tools = "none"

    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.journal_file = Path(folder.name) / "journal.jsonl"
        script = Path(folder.name) / "script.json"
        script.write_text(json.dumps({"rules": cls.rules}))
        command = [sys.executable, str(SERVE), "--until-eof", "--journal", str(cls.journal_file), "--script", str(script)]
        cls.process = subprocess.Popen([*command, "--tools", cls.tools], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        cls.addClassCleanup(cls._end)
        assert cls.process.stdout is not None
        cls.url = cls.process.stdout.readline().strip()

    @classmethod
    def _end(cls) -> None:
        cls.process.communicate()
        assert cls.process.returncode == 0, cls.process.returncode

    def setUp(self) -> None:
        self.control("reset", {})
        self.client = self.new_client()

    def new_client(self, **options: Any) -> openai.OpenAI:
        """A client of this server."""
        client = openai.OpenAI(base_url=self.url, api_key="test", **{"max_retries": 0, **options})
        self.addCleanup(client.close)
        return client

    def control(self, path: str, body: Any = None) -> Any:
        """What the control endpoint answers; with a body a POST."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url[: -len("/v1")] + "/control/" + path, data)
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def ask(self, text: str, **options: Any) -> Any:
        """A chat completion for a user's text."""
        return self.client.chat.completions.create(**{"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **options})
