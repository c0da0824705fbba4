"""A model that a module calls by a provider's own library, while it is imported or built: refused by us, not by the network."""

import importlib.util
import socket
import tempfile
import unittest
from pathlib import Path

from fake_worker import CREWS, FULL, seldom, shared_worker

HEAD = """
import asyncio, openai
settings = dict(base_url="http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=5)
client = openai.OpenAI(**settings)
def ask(client=client): return client.chat.completions.create(model="m", messages=[dict(role="user", content="hi")])
def swallowed(function):
    try: return function()
    except BaseException as error: return type(error).__name__
class Crew:
    def kickoff(self, inputs):
        return swallowed(ask)
def make(): return Crew()
"""
# What an import does → how the refusal names it.
REFUSED = {
    "ask()": 'OpenAI.post("/chat/completions")',
    "client.chat.completions.with_raw_response.create(model='m', messages=[])": 'OpenAI.post("/chat/completions")',
    "client.responses.create(model='m', input='hi', stream=True)": 'OpenAI.post("/responses")',
    "client.images.generate(prompt='a lamp')": 'OpenAI.post("/images/generations")',
    "asyncio.run(ask(openai.AsyncOpenAI(**settings)))": 'AsyncOpenAI.post("/chat/completions")',
    "ask(openai.AzureOpenAI(azure_endpoint='http://127.0.0.1:{port}', api_version='1', api_key='none'))": ('AzureOpenAI.post("/chat/completions")'),
}
# These cost nothing, or are embeddings: they go out, and meet nobody.
FREE = ("client.embeddings.create(model='m', input='hi')", "client.models.list()", "client.files.list()", "client.beta.threads.create()")
# Libraries of other providers, with the shape of the real ones, which a crew is the first to import.
STUBS = {
    "anthropic": "from . import _base_client\nclass Anthropic(_base_client.SyncAPIClient): pass\n",
    "anthropic/_base_client": "class SyncAPIClient:\n    def request(self, cast_to, options, *, stream=False): raise ConnectionError\n",
    "litellm": "from .main import *\n",
    "litellm/main": "def completion(model, **named): raise ConnectionError\nasync def acompletion(model, **named): raise ConnectionError\n",
}
OTHERS = {
    "import importlib.util; importlib.util.find_spec('litellm'); from litellm import completion\n"
    "swallowed(lambda: completion(model='m'))": "litellm.completion",
    "import litellm; swallowed(lambda: asyncio.run(litellm.acompletion(model='m')))": "litellm.acompletion",
    "import litellm.main; swallowed(lambda: litellm.main.completion(model='m'))": "litellm.completion",
    "import anthropic; from types import SimpleNamespace as N; o = N(method='post', url='/v1/messages?beta=true')\n"
    "swallowed(lambda: anthropic.Anthropic().request(dict, o))": 'Anthropic.post("/v1/messages")',
}


@unittest.skipUnless(importlib.util.find_spec("openai"), "this interpreter has no openai")
class GuardTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.worker = shared_worker()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.worker.end_hosts()

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory(prefix="crewfleet-guard-")
        self.addCleanup(place.cleanup)
        self.place = Path(place.name)
        # Nobody listens there: a request that goes out is refused by the kernel.
        closed = socket.socket()
        closed.bind(("127.0.0.1", 0))
        self.addCleanup(closed.close)
        self.port = closed.getsockname()[1]
        self.modules = 0

    def target(self, source: str) -> dict:
        """Settings' keys of a new module that does `source` when it is imported."""
        self.modules += 1
        name = f"asks_{self.modules}"
        (self.place / f"{name}.py").write_text(HEAD.format(port=self.port) + source.replace("{port}", str(self.port)) + "\n", encoding="utf-8")
        return {"target": f"{name}:make", "path": [str(self.place), CREWS]}

    def refused(self, source: str, what: str) -> None:
        settings = self.target(source)
        message = self.worker.check(**settings)["error"]["message"]
        name = settings["target"].partition(":")[0]
        self.assertIn(f"importing {name} called a model: in {self.place / name}.py, line", message)
        self.assertIn(f"{what} was called", message)

    def test_a_call_at_import(self) -> None:
        for source, what in REFUSED.items():
            with self.subTest(source):
                self.refused(f"answer = swallowed(lambda: {source})", what)

    def test_libraries_that_are_imported_first_by_the_crew(self) -> None:
        for name, text in STUBS.items():
            file = self.place / (f"{name}.py" if "/" in name else f"{name}/__init__.py")
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="ascii")
        for source, what in OTHERS.items():
            with self.subTest(source):
                self.refused(source, what)

    @seldom
    def test_a_fresh_interpreter_refuses_too(self) -> None:
        child = self.worker.start_host(**self.target("answer = swallowed(ask)"), isolation="spawn").start_child()
        self.assertIn('OpenAI.post("/chat/completions") was called', child.first["error"]["message"])
        self.assertEqual(child.host.exited()["pid"], child.pid)

    def test_a_call_while_the_crew_is_built(self) -> None:
        error = self.worker.check(**self.target("def make():\n    swallowed(ask)\n    return Crew()"))["error"]
        self.assertEqual(error["kind"], "build_failed")
        self.assertIn("called a model: in ", error["message"])

    def test_what_costs_nothing_goes_out(self) -> None:
        for source in FREE:
            with self.subTest(source):
                checked = self.worker.check(**self.target(f"assert swallowed(lambda: {source}) == 'APIConnectionError'"))
                self.assertTrue(checked["ok"], checked)

    def test_in_a_kickoff_models_are_called_by_clients_of_the_import(self) -> None:
        for isolation in ("fork", "spawn") if FULL else ("fork",):
            child = self.worker.start_host(**self.target("kept = client.chat.completions"), isolation=isolation).start_child()
            self.assertEqual(child.run({})["result"]["raw"], "APIConnectionError")


if __name__ == "__main__":
    unittest.main()
