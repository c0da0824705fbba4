"""Which versions are refused, and what an older CrewAI lacks is said."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from fake_worker import MAIN, Peer, seldom, shared_worker

PACKAGE = str(Path(MAIN).parent)
# Runs main.py in an interpreter that takes itself for another version.
AS_VERSION = "import runpy, sys; sys.version_info = {version}; sys.argv[:] = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


def first_frame(flags: list[str], path: str = "") -> tuple[dict, int]:
    """The first frame of a fork server that is started with these flags and PYTHONPATH, and its exit code once the worker has gone."""
    peer = Peer()
    with tempfile.TemporaryDirectory(prefix="crewfleet-test-") as home, tempfile.TemporaryFile() as output:
        environment = {**os.environ, "HOME": home, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, *flags, MAIN, "fork-server", os.path.join(home, "storage")]
        process = subprocess.Popen(command, stdin=peer.other.fileno(), stdout=output, stderr=output, env=environment)
        peer.other.close()
        frame = peer.expect("ready", "failed")
        peer.close()
        return frame, process.wait()


class UnsupportedTest(unittest.TestCase):
    """What is too old is refused, and the message says what is installed, what is needed, and how to get it."""

    def refused(self, flags: list[str], path: str = "") -> str:
        frame, code = first_frame(flags, path)
        self.assertEqual((frame["type"], code), ("failed", 1), frame)
        self.assertEqual((frame["error"]["kind"], frame["error"]["retryable"]), ("unsupported_version", False))
        return frame["error"]["message"]

    def test_an_old_python(self) -> None:
        message = self.refused(["-c", AS_VERSION.format(version=(3, 9, 18))])
        self.assertIn("is too old: kickoffs need Python 3.10 or later", message)

    def test_an_old_crewai(self) -> None:
        with tempfile.TemporaryDirectory(prefix="crewfleet-test-") as path:
            metadata = Path(path, "crewai-0.5.0.dist-info")
            metadata.mkdir()
            metadata.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: crewai\nVersion: 0.5.0\n", encoding="utf-8")
            # Not imported: this one would end the process.
            Path(path, "crewai.py").write_text("raise SystemExit(3)\n", encoding="utf-8")
            message = self.refused([], path)
        self.assertRegex(message, r"^crewai 0\.5\.0 is too old: kickoffs need \d+\.\d+\.\d+ or later; upgrade it: .* -m pip install --upgrade 'crewai>=\d")
        self.assertIn(sys.executable, message)

    def test_an_old_crewai_from_a_source_tree(self) -> None:
        with tempfile.TemporaryDirectory(prefix="crewfleet-test-") as path:
            Path(path, "crewai.py").write_text('__version__ = "0.5.0"\n', encoding="utf-8")
            self.assertIn("crewai 0.5.0 is too old", self.refused(["-S"], path))

    def test_a_newer_crewai_is_named(self) -> None:
        with tempfile.TemporaryDirectory(prefix="crewfleet-test-") as path:
            Path(path, "crewai.py").write_text('__version__ = "99.1.0"\n', encoding="utf-8")
            frame, _ = first_frame(["-S"], path)
        self.assertEqual(frame["type"], "ready", frame)
        self.assertIn("crewai 99.1.0 is newer than", frame["notes"][-1])

    def test_no_crewai_at_all(self) -> None:
        frame, _ = first_frame(["-S"])
        self.assertEqual((frame["type"], frame["crewai"], frame["notes"]), ("ready", None, []), frame)
        self.assertIn("No module named 'crewai'", frame["import_error"])


class FeaturesTest(unittest.TestCase):
    """The features of the CrewAI that is installed here."""

    @seldom
    def test_every_missing_feature_is_named_once_with_what_is_lost(self) -> None:
        source = (
            "import json, sys; sys.path.insert(0, sys.argv[1])\n"
            "from crewfleet_host import crewai_setup, features\n"
            "crewai_setup.import_crewai()\n"
            "print(json.dumps([crewai_setup.version(), [(f.name, f.since) for f in features.FEATURES], [f.name for f in features.missing()]]))"
        )
        done = subprocess.run([sys.executable, "-c", source, PACKAGE], capture_output=True, text=True, check=True)
        version, known, missing = json.loads(done.stdout.splitlines()[-1])
        self.assertEqual(len({name for name, _ in known}), len(known))
        # By the table, which looks for versions, and by the code, which looks for features.
        since = {name: [int(part) for part in since.split(".")] for name, since in known}
        installed = [int(part) for part in version.split(".")[:3]]
        self.assertEqual(missing, [name for name, first in since.items() if installed < first])
        worker = shared_worker()
        self.assertEqual(len(worker.ready["notes"]), len(missing), worker.ready["notes"])
        for name, note in zip(missing, worker.ready["notes"], strict=True):
            self.assertTrue(note.startswith(f"crewai {version} has no {name}: "), note)
            self.assertTrue(worker.lacks(name))


if __name__ == "__main__":
    unittest.main()
