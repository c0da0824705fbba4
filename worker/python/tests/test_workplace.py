"""Where kickoffs run: in their project as at home, without changing it or meeting each other. Both ways, forked and spawned."""

import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest
from typing import Any

from fake_worker import FakeWorker, Watched, seldom
from odd_places import make, read

PROJECT = {
    "pyproject.toml": "[project]\nname = 'shop'\n",
    "data/prices.csv": "bread,3\n",
    "knowledge/facts.txt": "bread is baked\n",
    "report.md": "of last year\n",
    "large.bin": "x" * (2 << 20),
    "src/shop/__init__.py": "",
    "src/shop/crew.py": """
import os
import sqlite3

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.makedirs("output", exist_ok=True)
with open("imported.txt", "w", encoding="utf-8") as file:
    file.write("while importing")


class Shop:
    def kickoff(self, inputs):
        return eval(inputs["do"], {**globals(), "inputs": inputs, "write": write, "read": read})


def write(place, text):
    with open(place, "a", encoding="utf-8") as file:
        file.write(text)
    return place


def read(place):
    with open(place, encoding="utf-8") as file:
        return file.read()
""",
}

KICKOFF = """
class Crew:
    def kickoff(self, inputs):
        sizes = {name: os.path.getsize(name) for name in ("much.bin", "little.txt") if os.path.exists(name)}
        if "append" in inputs:
            with open(inputs["append"], "a", encoding="utf-8") as file:
                file.write("!")
        return sizes
"""


def contents(folder: str) -> dict[str, tuple[str, int]]:
    """What every file below `folder` holds, and its mode; compiled Python too."""
    found = {}
    for directory, _, names in os.walk(folder):
        for name in names:
            place = os.path.join(directory, name)
            with open(place, "rb") as file:
                found[os.path.relpath(place, folder)] = (hashlib.sha256(file.read()).hexdigest(), stat.S_IMODE(os.lstat(place).st_mode))
    return found


class WorkplaceTest:
    """`way` is "overlay" or "links"; `isolation` "fork" or "spawn"."""

    way = ""
    isolation = "fork"

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory(prefix="crewfleet-project-")
        cls.project = os.path.realpath(os.path.join(cls.folder.name, "a project, with: signs"))
        make(cls.project, PROJECT)
        cls.before = contents(cls.project)
        cls.worker = FakeWorker(with_crewai=False)
        cls.settings = {"path": [os.path.join(cls.project, "src")], "working_dir_way": cls.way, "isolation": cls.isolation}
        cls.host = cls.worker.start_host("shop.crew:Shop", **cls.settings)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.worker.close()
        cls.folder.cleanup()

    def do(self, expression: str, child=None, **more: object) -> dict:
        child = child or self.host.start_child()
        answer = child.run({"do": expression}, **more)
        self.assertEqual(answer["type"], "result", answer)
        return answer

    def value(self, expression: str, child=None) -> Any:
        result = self.do(expression, child)["result"]
        return result["raw"] if result["json"] is None else result["json"]

    def test_the_project_is_found_and_said(self) -> None:
        for told in (self.host.first, self.worker.check("shop.crew:Shop", **self.settings)):
            self.assertEqual((told["working_dir"], told["files"]), (self.project, self.way))
        elsewhere = self.worker.check("shop.crew:Shop", **{**self.settings, "working_dir": os.path.join(self.project, "data")})
        self.assertEqual(elsewhere["working_dir"], os.path.join(self.project, "data"))

    def test_files_of_the_project_are_there_by_relative_path(self) -> None:
        self.assertEqual(self.value('read("data/prices.csv")'), "bread,3\n")
        self.assertEqual(self.value('os.path.realpath("knowledge/facts.txt").startswith(os.path.realpath("."))'), True)
        self.assertEqual(self.value('len(read("large.bin"))'), 2 << 20)

    def test_what_the_import_wrote_is_there_for_every_kickoff(self) -> None:
        self.assertEqual(self.value('[read("imported.txt"), os.path.isdir("output")]')[0], "while importing")

    def test_files_come_back_and_the_project_stays_as_it_was(self) -> None:
        answer = self.do('[write("report.md", "and now"), write("output/chart.bin", "\\x00"), os.symlink("/etc/hostname", "link")] and ""')
        found = {entry["path"]: entry for entry in answer["result"]["files"]}
        self.assertEqual(sorted(found), ["output/chart.bin", "report.md"])
        report = found["report.md"]
        text = "of last year\nand now"
        self.assertEqual((report["content"], report["encoding"], report["media_type"]), (text, "utf-8", "text/markdown"))
        self.assertEqual((report["bytes"], report["sha256"]), (len(text), hashlib.sha256(text.encode()).hexdigest()))
        with open(os.path.join(answer["files_dir"], "report.md"), encoding="utf-8") as file:
            self.assertEqual(file.read(), text)
        self.assertEqual(contents(self.project), self.before)

    def test_kickoffs_do_not_meet(self) -> None:
        first, second = self.host.start_child(), self.host.start_child()
        self.value('write("mine.txt", "of the first")', first)
        self.assertEqual(self.value('os.path.exists("mine.txt")', second), False)
        self.assertEqual(self.value('[os.path.exists("mine.txt"), os.getcwd()]', first)[0], False)

    def test_removing_changes_nothing_of_the_project(self) -> None:
        self.assertEqual(self.value('[os.remove("data/prices.csv"), os.path.exists("data/prices.csv")][1]'), False)
        self.assertEqual(contents(self.project), self.before)

    def test_limits_of_the_list(self) -> None:
        host = self.worker.start_host("shop.crew:Shop", **self.settings, max_files=3, inline_files_bytes=10)
        many = '[write(f"{n}.txt", "1234567") for n in range(3)] + [os.makedirs("deep"), write("deep/er.txt", "12")] and ""'
        result = self.do(many, host.start_child())["result"]
        self.assertEqual([entry["path"] for entry in result["files"]], ["0.txt", "1.txt", "2.txt"])
        self.assertEqual([entry["content"] for entry in result["files"]], ["1234567", None, None])
        self.assertEqual(result["files_left_out"], {"count": 1, "bytes": 2, "first": "deep/er.txt"})

    def test_names_that_are_no_text_are_told_of(self) -> None:
        result = self.do('open(b"odd-\\xff", "w").close() or ""')["result"]
        self.assertEqual((result["files"], result["files_left_out"]["first"]), ([], "odd-?"))

    def test_a_database_of_the_project_is_each_kickoffs_own(self) -> None:
        make = 'sqlite3.connect("state.db").executescript("create table if not exists t (n); insert into t values (1);") and ""'
        count = '[c.execute("select count(*) from t").fetchone()[0] for c in [sqlite3.connect("state.db")]][0]'
        for _ in range(2):
            child = self.host.start_child()
            self.do(make, child)
            self.assertFalse(self.value('os.path.exists("state.db")', child))
        both = f"[{make}, {count}][1]"
        self.assertEqual([self.value(both), self.value(both)], [1, 1])

    def test_what_was_opened_to_be_written_but_was_not_is_no_file_of_the_kickoff(self) -> None:
        opened = '[open(name, "r+").close() for name in ("report.md", "imported.txt", "large.bin")] and ""'
        self.assertEqual(self.do(opened)["result"]["files"], [])
        changed = self.do('[open("report.md", "r+").close(), os.chmod("data/prices.csv", 0o600)] and ""')["result"]["files"]
        self.assertEqual([entry["path"] for entry in changed], ["data/prices.csv"] if self.way == "overlay" else [])

    def test_kickoffs_leave_nothing_behind(self) -> None:
        host = self.worker.start_host("shop.crew:Shop", **self.settings)
        mounts, children = f"/proc/{host.pid}/mountinfo", f"/proc/{host.pid}/task/{host.pid}/children"
        before = read(mounts)
        look = '[sorted(os.listdir("/proc/self/fd")), read("/proc/self/mountinfo").count("\\n"), write("new.txt", "x")][:2]'
        for _ in range(2):
            child = host.start_child()
            seen = [self.value(look, child) for _ in range(4)]
            self.assertEqual(seen[1:], seen[:1] * 3)
            child.finish()
        self.assertEqual((read(mounts), read(children)), (before, ""))
        self.assertLessEqual(set(os.listdir(child.work_dir)), {"files", "overlay", ".storage"})
        self.assertEqual(contents(self.project), self.before)

    def test_nothing_is_left_of_children_that_were_killed(self) -> None:
        child = self.host.start_child()
        child.kickoff({"do": "write('half.txt', 'x') and __import__('signal').pause()"})
        os.killpg(child.pid, 9)
        self.assertTrue(Watched(child.pid).ended())
        self.assertEqual(self.host.exited()["signal"], 9)
        with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
            self.assertNotIn(self.worker.dir.name, mounts.read())
        self.assertEqual(contents(self.project), self.before)


@unittest.skipUnless(sys.platform == "linux", "mount namespaces are Linux's")
class OverlayTest(WorkplaceTest, unittest.TestCase):
    """An overlay on the project's own path."""

    way = "overlay"

    def test_absolute_paths_into_the_project_are_the_kickoffs_own_too(self) -> None:
        answer = self.do('write(os.path.join(ROOT, "report.md"), "!") and ""')
        self.assertEqual([entry["path"] for entry in answer["result"]["files"]], ["report.md"])
        self.assertEqual(contents(self.project), self.before)
        self.assertEqual(self.value("os.getcwd()"), self.project)

    def test_what_the_worker_keeps_inside_the_project_is_no_part_of_it(self) -> None:
        with tempfile.TemporaryDirectory(dir=self.project) as keep:
            storage = {"storage_dir": os.path.join(keep, "storage"), "storage": "shared"}
            folders = {"data_dir": keep, "scratch_dir": os.path.join(keep, "hosts"), **storage}
            host = self.worker.start_host("shop.crew:Shop", **self.settings, **folders)
            child = host.start_child()
            shared = "os.environ['CREWAI_STORAGE_DIR']"
            do = f"[write('own.txt', 'x'), os.makedirs({shared}, exist_ok=True), write({shared} + '/all', '.')] and ''"
            for number in range(2):
                answer = self.do(do, child, work_dir=os.path.join(keep, f"k-{number}"))
                self.assertEqual([entry["path"] for entry in answer["result"]["files"]], ["own.txt"])
            with open(os.path.join(keep, "storage", "all"), encoding="utf-8") as file:
                self.assertEqual(file.read(), "..")
            child.finish()
            host.peer.close()
            self.assertEqual(self.worker.peer.expect("exited")["pid"], host.pid)


class OverlaySpawnTest(OverlayTest):
    """In a fresh interpreter."""

    isolation = "spawn"


class LinksTest(WorkplaceTest, unittest.TestCase):
    """A folder with copies and links."""

    way = "links"

    def test_a_change_of_what_is_only_linked_is_told_of(self) -> None:
        notes = self.worker.check("shop.crew:Shop", **self.settings)["notes"]
        self.assertTrue(any(note.startswith("large.bin of the project: too large") for note in notes), notes)
        answer = self.do('write("large.bin", "y") and ""')
        with open(os.path.join(self.project, "large.bin"), "r+b") as file:
            file.truncate(2 << 20)
        self.assertEqual([warning.partition(" was ")[0] for warning in answer["warnings"]], ["large.bin of the project itself"])
        self.assertEqual(self.do('""')["warnings"], [])


class LinksSpawnTest(LinksTest):
    """In a fresh interpreter."""

    isolation = "spawn"


@unittest.skipUnless(os.geteuid() == 0, "needs mounts")
class ProjectOnOverlayTest(unittest.TestCase):
    """The project lies on an overlay, as in an image: the kernel allows one more on it, not two."""

    mount = 'mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3" "$4"; shift 4; exec "$@"'

    def test_kickoffs_stand_on_one_overlay_more(self) -> None:
        with tempfile.TemporaryDirectory(prefix="crewfleet-image-") as home:
            folders = [os.path.realpath(os.path.join(home, name)) for name in ("layer", "upper", "work", "project")]
            make(folders[0], PROJECT)
            for folder in folders[1:]:
                os.mkdir(folder)
            launcher = ["unshare", "--mount", "sh", "-ec", self.mount, "sh", *folders]
            if subprocess.run([*launcher, "true"], capture_output=True, check=False).returncode != 0:
                self.skipTest("no overlay can be mounted here")
            worker = FakeWorker(with_crewai=False, launcher=launcher)
            self.addCleanup(worker.close)
            before = contents(folders[0])
            for isolation in ("fork", "spawn"):
                with self.subTest(isolation):
                    settings = {"path": [os.path.join(folders[3], "src")], "isolation": isolation}
                    host = worker.start_host("shop.crew:Shop", **settings)
                    self.assertEqual((host.first["files"], host.first["files_reason"]), ("overlay", None))
                    answer = host.start_child().run({"do": 'write("report.md", read("imported.txt"))'})
                    self.assertEqual([entry["content"] for entry in answer["result"]["files"]], ["of last year\nwhile importing"])
            self.assertEqual(contents(folders[0]), before)
            self.assertEqual(contents(folders[1]), {})


class FailuresTest(unittest.TestCase):
    """What fails in making a place is no fault of the crew's, and is said."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="crewfleet-failing-")
        self.addCleanup(folder.cleanup)
        self.project = os.path.realpath(folder.name)
        self.worker = FakeWorker(with_crewai=False)
        self.addCleanup(self.worker.close)

    def settings(self, body: str, **more: object) -> dict:
        """Of a project whose crew module begins with `body`."""
        make(self.project, {"pyproject.toml": "", "breaking.py": f"import os\n{body}\n{KICKOFF}"})
        return {"path": [self.project], **more}

    def assert_unavailable(self, error: dict, *said: str) -> None:
        self.assertEqual((error["kind"], error["retryable"]), ("working_dir_unavailable", True), error)
        for text in said:
            self.assertIn(text, error["message"])

    def test_what_an_import_wrote_cannot_be_kept(self) -> None:
        full = "open('written.txt', 'w').close()\nimport crewfleet_host.workplace as w\ndef full(*_):\n    raise OSError(28, 'disk full')\nw._copy_entry = full"
        for way in ("auto", "links"):
            settings = self.settings(full, working_dir_way=way)
            said = (os.path.join(self.project, "written.txt"), "disk full")
            checked = self.worker.check("breaking:Crew", **settings)
            self.assertFalse(checked["ok"])
            self.assert_unavailable(checked["error"], *said)
            self.assert_unavailable(self.worker.start_host("breaking:Crew", **settings).first["error"], *said)
            child = self.worker.start_host("breaking:Crew", **settings, isolation="spawn").start_child()
            self.assert_unavailable(child.first["error"], *said)

    def test_a_fault_of_ours_is_no_silent_end(self) -> None:
        # The thread would hold a spawned child for ever, were its end a normal one.
        fault = "import crewfleet_host.workplace as w, threading\ndef fault(*_):\n    raise ValueError('of ours')\nw._copy_entry = fault"
        thread = "open('written.txt', 'w').close()\nthreading.Thread(target=threading.Event().wait).start()"
        settings = self.settings(f"{fault}\n{thread}")
        with self.assertRaisesRegex(AssertionError, "the channel ended"):
            self.worker.start_host("breaking:Crew", **settings)
        self.assertEqual(self.worker.peer.expect("exited")["exit_code"], 1)
        self.assertIn("ValueError: of ours", self.worker.host_output())
        host = self.worker.start_host("breaking:Crew", **settings, isolation="spawn")
        with self.assertRaisesRegex(AssertionError, "the channel ended"):
            host.start_child()
        self.assertEqual(host.exited()["exit_code"], 1)

    def test_a_kickoff_whose_folder_cannot_be_made(self) -> None:
        for way in ("auto", "links"):
            host = self.worker.start_host("breaking:Crew", **self.settings("", working_dir_way=way))
            answer = host.start_child().run({}, work_dir=os.path.join(self.project, "breaking.py", "k"))
            self.assert_unavailable(answer["error"], "breaking.py/k", "Not a directory")

    def test_a_fork_that_gets_no_mounts(self) -> None:
        none = "import crewfleet_host.workplace as w\ndef none(self):\n    raise OSError(28, 'no namespace is left')\nw.Workplace.leave_parents = none"
        child = self.worker.start_host("breaking:Crew", **self.settings(none)).start_child()
        self.assert_unavailable(child.first["error"], "no namespace is left")

    def test_an_import_that_writes_much_with_the_data_dir_in_the_project(self) -> None:
        much = 70 << 20
        with tempfile.TemporaryDirectory(dir=self.project) as keep:
            folders = {"data_dir": keep, "scratch_dir": os.path.join(keep, "hosts")}
            body = f"with open('much.bin', 'wb') as file:\n    file.truncate({much})\nopen('little.txt', 'w').close()"
            for way in ("auto", "links"):
                host = self.worker.start_host("breaking:Crew", **self.settings(body, working_dir_way=way, **folders))
                self.assertEqual(host.first["type"], "ready", host.first)
                for number in range(2):
                    child = host.start_child()
                    result = child.run({"append": "little.txt"}, work_dir=os.path.join(keep, f"k-{way}-{number}"))["result"]
                    self.assertEqual(result["json"], {"much.bin": much, "little.txt": 0}, result)
                    self.assertEqual([entry["path"] for entry in result["files"]], ["little.txt"])
                    child.finish()
                host.peer.close()
                self.worker.peer.expect("exited")


@unittest.skipUnless(os.geteuid() == 0, "everything here runs as somebody without privileges already")
class NobodyTest(unittest.TestCase):
    """As a user without any privilege."""

    @seldom
    def test_an_overlay_needs_no_privilege(self) -> None:
        nobody: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": ()}
        with tempfile.TemporaryDirectory(prefix="crewfleet-nobody-") as home:
            os.chmod(home, 0o755)
            package = shutil.copytree(os.path.dirname(os.path.dirname(__file__)), os.path.join(home, "python"), ignore=shutil.ignore_patterns("__pycache__"))
            environment = {"PATH": os.defpath, "HOME": home, "TMPDIR": "/tmp"}
            for python in (sys.executable, "/usr/bin/python3"):  # one in root's own home is not for others
                command = [python, "-B", "-m", "unittest", "test_workplace.OverlayTest", "test_workplace.OverlaySpawnTest"]
                with contextlib.suppress(PermissionError):
                    run = subprocess.run(command, cwd=os.path.join(package, "tests"), env=environment, capture_output=True, text=True, check=False, **nobody)
                    break
        self.assertEqual(run.returncode, 0, run.stderr)


if __name__ == "__main__":
    unittest.main()
