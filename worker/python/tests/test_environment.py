"""Whose word counts: the user's environment before the project's .env, and both before what the worker sets."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from fake_worker import FakeWorker, seldom

ROOT = Path(__file__).parents[1]
TELLER = "surroundings:make"
# In an interpreter of its own: the module remembers what is ours.
_READ = """
import json, os, sys
from crewfleet_host import environment
environment.set_defaults("/ours")
try:
    read = environment.read_env_file(sys.argv[1])
    told = read and [read.path, read.set, read.outranked]
except environment.UnreadableEnvFile as error:
    told = str(error)
print(json.dumps([told, dict(os.environ)]))
"""


class EnvFileOfTheProject(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory(prefix="crewfleet-test-")
        self.addCleanup(directory.cleanup)
        self.folder = Path(directory.name)

    def read(self, text: bytes, **environ: str) -> tuple:
        (self.folder / ".env").write_bytes(text)
        command = [sys.executable, "-c", _READ, str(self.folder)]
        env = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environ}
        return tuple(json.loads(subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True).stdout))

    def test_it_is_below_the_environment_and_above_our_defaults(self):
        told, environ = self.read(b"A='from file' # c\nB=${A}/${C}\nC=file\nCREWAI_TRACING_ENABLED=true\nCREWAI_STORAGE_DIR=/mine\nNO\n", C="given")
        self.assertEqual(told, [str(self.folder / ".env"), ["A", "B", "CREWAI_STORAGE_DIR", "CREWAI_TRACING_ENABLED"], ["C"]])
        values = [environ.get(name) for name in ("A", "B", "C", "CREWAI_TRACING_ENABLED", "CREWAI_STORAGE_DIR", "CREWAI_DISABLE_TELEMETRY", "NO")]
        self.assertEqual(values, ["from file", "from file/given", "given", "true", "/mine", "true", None])

    def test_it_may_be_disabled_as_at_home(self):
        told, environ = self.read(b"A=1\n", PYTHON_DOTENV_DISABLED="True")
        self.assertIsNone(told)
        self.assertNotIn("A", environ)

    def test_it_may_be_disabled_where_python_dotenv_is_too_old_to_know(self):
        (self.folder / ".env").write_text("A=1\n")
        code = (
            "import dotenv, os, sys; vars(dotenv.main).pop('_load_dotenv_disabled', None)\n"
            "from crewfleet_host import environment; environment.{0}\n"
            "from dotenv import load_dotenv; print(load_dotenv(sys.argv[1]), os.environ.get('A'))"
        )
        env = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PYTHON_DOTENV_DISABLED": "1"}
        for entry in ("set_defaults('/ours')", "adopt([])"):
            command = [sys.executable, "-c", code.format(entry), str(self.folder / ".env")]
            said = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True, text=True).stdout
            self.assertEqual(said, "False None\n")

    def test_one_that_cannot_be_read_is_named_and_not_shown(self):
        for text, expected in ((b"A=sk-secret\xff\n", "no UTF-8 text, from its byte 11 on"), (b"A=sk-secret\0\n", "a NUL in a value")):
            with self.subTest(expected):
                told, _ = self.read(text)
                self.assertIn(str(self.folder / ".env"), told)
                self.assertIn(expected, told)
                self.assertNotIn("secret", told)


class Surroundings(unittest.TestCase):
    """One fork server for each environment, which is what the worker does."""

    def told(self, names: list, environ: dict | None = None, **settings: object) -> dict:
        worker = FakeWorker(with_crewai=False, environ=environ)
        self.addCleanup(worker.close)
        child = worker.start_host(TELLER, **settings).start_child()
        return json.loads(child.run({"names": names})["result"]["raw"])

    def test_the_projects_own_env_file_reaches_the_crew(self):
        with tempfile.TemporaryDirectory(prefix="crewfleet-test-") as project:
            Path(project, ".env").write_text("KEY='sk-x' # production\nGIVEN=no\nCREWAI_STORAGE_DIR=./storage/mine\n")
            Path(project, "pyproject.toml").touch()
            if importlib.util.find_spec("dotenv") is None:
                self.skipTest("this interpreter has no python-dotenv")
            worker = FakeWorker(environ={"GIVEN": "yes"})
            self.addCleanup(worker.close)
            names = ["KEY", "GIVEN", "CREWAI_STORAGE_DIR"]
            mine = os.path.join(os.path.realpath(project), "storage", "mine")
            for isolation in ("fork", "spawn"):
                for way in ("auto", "links"):
                    with self.subTest(isolation=isolation, way=way):
                        settings = {"working_dir": project, "working_dir_way": way, "isolation": isolation}
                        checked = worker.check(TELLER, **settings)
                        self.assertEqual(checked["env_file"]["set"], ["CREWAI_STORAGE_DIR", "KEY"], checked)
                        self.assertEqual(checked["env_file"]["outranked"], ["GIVEN"])
                        answer = worker.start_host(TELLER, **settings).start_child().run({"names": names, "remember": f"{isolation}-{way}"})
                        self.assertEqual(json.loads(answer["result"]["raw"]), {"KEY": "sk-x", "GIVEN": "yes", "CREWAI_STORAGE_DIR": mine})
            # What is remembered there lasts, though kickoffs do not change the project.
            self.assertEqual(len(os.listdir(mine)), 4)
            child = worker.start_host(TELLER, working_dir=project, dotenv=False).start_child()
            self.assertIsNone(json.loads(child.run({"names": names})["result"]["raw"])["KEY"])
            Path(project, ".env").write_bytes(b"KEY=sk-x\xff\n")
            refused = worker.check(TELLER, working_dir=project)
            self.assertEqual(refused["error"]["kind"], "env_file_unreadable")
            self.assertNotIn("sk-x", json.dumps(refused))

    @seldom
    def test_the_projects_own_interpreter_reads_its_env_file_no_sooner_and_no_more(self):
        crewai = importlib.util.find_spec("crewai")
        if crewai is None or crewai.origin is None:
            self.skipTest("this interpreter has no crewai, whose import reads the .env above it")
        with tempfile.TemporaryDirectory(prefix="crewfleet-test-") as project:
            Path(project, "pyproject.toml").touch()
            packages = Path(project, ".venv", "packages")
            packages.mkdir(parents=True)
            (packages / "crewai").symlink_to(os.path.dirname(crewai.origin))
            env_file, names = Path(project, ".env"), ["KEY", "GONE", "GIVEN"]
            # What the worker gives a fork server whose crews say `dotenv = false`.
            for disabled in ({}, {"PYTHON_DOTENV_DISABLED": "true"}):
                env_file.write_text("KEY=first\nGONE=1\nGIVEN=no\n")
                worker = FakeWorker(environ={"PYTHONPATH": str(packages), "GIVEN": "yes", **disabled})
                self.addCleanup(worker.close)
                read = worker.check(TELLER, working_dir=project, dotenv=not disabled)["env_file"]
                expected = None if disabled else {"path": os.path.realpath(env_file), "set": ["GONE", "KEY"], "outranked": ["GIVEN"]}
                self.assertEqual(read, expected)
                env_file.write_text("KEY=second\nGIVEN=no\n")
                for isolation in ("fork", "spawn"):
                    with self.subTest(disabled=bool(disabled), isolation=isolation):
                        child = worker.start_host(TELLER, working_dir=project, isolation=isolation, dotenv=not disabled).start_child()
                        told = json.loads(child.run({"names": names})["result"]["raw"])
                        self.assertEqual(told, {"KEY": None if disabled else "second", "GONE": None, "GIVEN": "yes"})

    def test_what_is_set_where_nobody_says_otherwise(self):
        defaults = {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false", "CREWAI_DISABLE_VERSION_CHECK": "true"}
        names = [*defaults, "OTEL_SDK_DISABLED", "SSL_CERT_FILE", "HTTPS_PROXY"]
        unset = dict.fromkeys(("OTEL_SDK_DISABLED", "SSL_CERT_FILE", "HTTPS_PROXY"))
        environ = {name: value for name in names if (value := os.environ.get(name)) is not None}
        self.assertEqual(self.told(names), {**defaults, **unset, **environ})
        user = dict.fromkeys(names, "user's")
        self.assertEqual(self.told(names, environ=user), user)

    def test_the_storage_that_the_user_names_stays(self):
        with tempfile.TemporaryDirectory(prefix="crewfleet-test-") as mine:
            for way, environ in (("environment", {"CREWAI_STORAGE_DIR": mine}), ("code", {"STORAGE_BY_CODE": mine})):
                for isolation in ("fork", "spawn"):
                    with self.subTest(way=way, isolation=isolation):
                        self.assertEqual(self.told(["CREWAI_STORAGE_DIR"], environ, isolation=isolation), {"CREWAI_STORAGE_DIR": mine})

    def test_our_storage_is_that_of_the_kickoff(self):
        worker = FakeWorker(with_crewai=False)
        self.addCleanup(worker.close)
        for isolation in ("fork", "spawn"):
            child = worker.start_host(TELLER, isolation=isolation).start_child()
            for _ in range(2):
                told = json.loads(child.run({"names": ["CREWAI_STORAGE_DIR"]})["result"]["raw"])
                self.assertEqual(told, {"CREWAI_STORAGE_DIR": os.path.join(child.work_dir, ".storage")})

    @seldom
    def test_a_storage_that_the_user_names_is_locked_between_processes(self):
        if importlib.util.find_spec("crewai_core") is None:
            self.skipTest("this interpreter has no crewai whose locks can be replaced")
        with tempfile.TemporaryDirectory(prefix="crewfleet-test-") as mine:
            worker = FakeWorker(environ={"CREWAI_STORAGE_DIR": mine})
            self.addCleanup(worker.close)
            answer = worker.start_host("offline:make").start_child().run({"A": 1, "B": 2})
            self.assertEqual(answer["type"], "result", answer)
            self.assertIn("latest_kickoff_task_outputs.db", os.listdir(mine))
            self.assertTrue(os.listdir(os.path.join(mine, ".locks")))


if __name__ == "__main__":
    unittest.main()
