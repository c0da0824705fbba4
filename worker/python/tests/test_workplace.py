"""Where kickoffs run: in their project as at home, without changing it or meeting each other. Both ways, forked and spawned."""

import contextlib
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

import odd_places
from crewfleet_host.workplace import _remove
from fake_worker import FakeWorker, Watched

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
        for name, text in PROJECT.items():
            place = os.path.join(cls.project, name)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with open(place, "w", encoding="utf-8") as file:
                file.write(text)
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

    def value(self, expression: str, child=None) -> object:
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
        child = self.host.start_child()
        self.do('write("large.bin", "y") and ""', child)
        with open(os.path.join(self.project, "large.bin"), "r+b") as file:
            file.truncate(2 << 20)
        child.finish()
        self.assertIn("changed large.bin of the project itself", child.output()[1])


class OddPlaces:
    """A small project; each host is a process of its own: see odd_places.py."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="crewfleet-odd-")
        self.addCleanup(folder.cleanup)
        os.chmod(folder.name, 0o755)
        self.home = os.path.realpath(folder.name)
        self.project = os.path.join(self.home, "project")
        for name, text in {"data/prices.csv": "bread,3\n", "report.md": "old\n"}.items():
            place = os.path.join(self.project, name)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with open(place, "w", encoding="utf-8") as file:
                file.write(text)

    def host(self, do: str = "None", before: str = "", **settings: object) -> dict:
        folders = {"working_dir": self.project, "data_dir": os.path.join(self.home, "data")}
        # In an interpreter of its own: what this one has imported by now, and its threads, are no part of a host.
        given = {"settings": {**folders, **settings}, "do": do, "before": before}
        run = subprocess.run([sys.executable, odd_places.__file__], input=json.dumps(given), capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 0, run.stderr)
        return json.loads(run.stdout)


class OddPlacesTest(OddPlaces, unittest.TestCase):
    """Projects that are not as one expects."""

    def test_what_is_no_file_is_there_too(self) -> None:
        os.mkfifo(os.path.join(self.project, "fifo"))
        for link, target in (("loop", "loop"), ("inside", "data"), ("outside", self.home), ("nowhere", "gone")):
            os.symlink(target, os.path.join(self.project, link))
        with open(os.path.join(self.project, "huge"), "wb") as file:
            file.truncate(1 << 40)
        at_home = sorted(os.listdir(self.project))
        do = '[sorted(os.listdir()), append("inside/new", ""), os.path.exists("data/new"), os.path.getsize("huge")]'
        for way in ("auto", "links"):
            told = self.host(do, working_dir_way=way)
            self.assertEqual(told["value"], [at_home, None, True, 1 << 40], told)
            self.assertEqual(os.listdir(os.path.join(self.project, "data")), ["prices.csv"])

    def test_removing_a_folder_of_links_changes_nothing_behind_them(self) -> None:
        os.chmod(os.path.join(self.project, "data"), 0o751)
        folder = os.path.join(self.home, "folder")
        os.makedirs(os.path.join(folder, "closed"), mode=0)
        os.symlink(os.path.join(self.project, "data"), os.path.join(folder, "data"))
        _remove(folder)
        self.assertFalse(os.path.exists(folder))
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(self.project, "data")).st_mode), 0o751)

    def test_a_project_without_end_costs_little(self) -> None:
        many = os.path.join(self.project, "many")
        for folder in range(3):
            os.makedirs(os.path.join(many, str(folder)))
            for name in range(1_000):
                os.link(os.path.join(self.project, "report.md"), os.path.join(many, str(folder), str(name)))
        os.makedirs(os.path.join(self.project, *["deep"] * 300))
        told = self.host('[len(os.listdir(f"many/{n}")) for n in range(3)]', working_dir_way="links")
        self.assertEqual(told["value"], [1_000] * 3, told)
        self.assertLess(told["entries"], 2_100)
        self.assertEqual(sorted(set(told["folders_linked"]) & {"many/0", "many/1", "many/2"}), ["many/1", "many/2"])

    def test_too_many_at_the_top_are_refused(self) -> None:
        for name in range(10_001):
            os.link(os.path.join(self.project, "report.md"), os.path.join(self.project, str(name)))
        self.assertIn("more than 10000 entries", self.host(working_dir_way="links")["refused"])

    def test_what_nobody_may_read_says_so(self) -> None:
        os.chmod(os.path.join(self.project, "report.md"), 0)
        os.makedirs(os.path.join(self.project, "closed"), mode=0)
        do = '[error(lambda: read("report.md")), error(lambda: os.listdir("closed")), read("data/prices.csv")]'
        for way in ("auto", "links"):
            told = self.host(do, "become_nobody(home)", working_dir_way=way, home=self.home)
            self.assertEqual(told["value"], ["PermissionError", "PermissionError", "bread,3\n"], told)

    def test_what_is_nobodys_project_is_refused(self) -> None:
        self.assertIn("name the project's folder", self.host(working_dir="/")["refused"])
        self.assertIn("is the worker's data_dir", self.host(data_dir=self.project)["refused"])

    def test_a_folder_that_is_gone_is_said(self) -> None:
        told = self.host(before='os.mkdir("/tmp/crewfleet-gone"); os.chdir("/tmp/crewfleet-gone"); os.rmdir("/tmp/crewfleet-gone")', working_dir=None)
        self.assertIn("in which the worker was started is gone", told["refused"])


@unittest.skipUnless(os.geteuid() == 0, "needs mounts and another user")
class OddMachinesTest(OddPlaces, unittest.TestCase):
    """What only root can arrange; the hosts are nobody's."""

    def nobody(self, do: str = "None", before: str = "pass", **settings: object) -> dict:
        return self.host(do, f"unshare(NEWNS); {before}; become_nobody(home)", home=self.home, **settings)

    def test_a_project_of_another_user_can_be_written_as_by_its_owner(self) -> None:
        do = '[append("report.md", "new"), append("data/more.csv", "x"), append("data/prices.csv", "y"), os.remove("report.md")] and read("data/prices.csv")'
        for way in ("overlay", "links"):
            told = self.nobody(do, working_dir_way=way)
            self.assertEqual((told["way"], told["value"]), (way, "bread,3\ny"), told)
            self.assertEqual(sorted(told["changed"]), ["data/more.csv", "data/prices.csv"])
        self.assertEqual(self.nobody("None")["changed"], [])
        seeded = self.nobody('read("report.md")', build='append("report.md", "built")')
        self.assertEqual((seeded["way"], seeded["value"], seeded["changed"]), ("overlay", "old\nbuilt", []), seeded)

    def test_a_project_that_is_read_only(self) -> None:
        told = self.nobody('append("report.md", "new")', "bind(project); mount('none', project, None, MS_BIND | MS_REMOUNT | MS_RDONLY)", project=self.project)
        self.assertEqual((told["way"], told["changed"]), ("overlay", ["report.md"]), told)

    def test_data_dir_on_file_systems_of_all_kinds(self) -> None:
        data = os.path.join(self.home, "data")
        os.mkdir(data)
        on_overlay = "[os.mkdir(f'{home}/{n}') for n in 'luw'] and mount('overlay', data, 'overlay', 0, f'lowerdir={home}/l,upperdir={home}/u,workdir={home}/w')"
        for before, way, reason in (
            ("mount('tmpfs', data, 'tmpfs', 0, None)", "overlay", None),
            (on_overlay, "links", "lies on an overlay itself"),
            ("mount('ramfs', data, 'ramfs', 0, None)", "links", "keeps no extended attributes (ramfs)"),
        ):
            told = self.nobody('read("data/prices.csv")', f"{before}; os.chmod(data, 0o777)", data=data)
            self.assertEqual((told["way"], told["value"]), (way, "bread,3\n"), told)
            self.assertIn(reason or "None", str(told["reason"]))

    def test_a_volume_inside_the_project(self) -> None:
        volume = os.path.join(self.project, "data")
        before = "mount('tmpfs', volume, 'tmpfs', 0, None); append(f'{volume}/prices.csv', 'of the volume')"
        told = self.nobody('read("data/prices.csv")', before, volume=volume)
        self.assertEqual((told["way"], told["value"]), ("links", "of the volume"), told)
        self.assertIn(f"{volume} is mounted inside the project", told["reason"])
        told = self.host('read("data/prices.csv")', f"unshare(NEWNS); {before}", volume=volume)
        self.assertEqual((told["way"], told["value"]), ("overlay", "of the volume"), told)

    def test_a_kernel_that_allows_no_namespaces(self) -> None:
        none = "unshare(NEWUSER, map_root=True); [append(f'/proc/sys/user/max_{n}_namespaces', '0') for n in ('user', 'mnt')]"
        told = self.host('read("data/prices.csv")', none)
        self.assertEqual((told["way"], told["value"]), ("links", "bread,3\n"), told)
        self.assertIn("user.max_user_namespaces", told["reason"])
        self.assertIn("user.max_user_namespaces", self.host(before=none, working_dir_way="overlay")["refused"])


@unittest.skipUnless(os.geteuid() == 0, "everything here runs as somebody without privileges already")
class NobodyTest(unittest.TestCase):
    """As a user without any privilege."""

    def test_an_overlay_needs_no_privilege(self) -> None:
        nobody = {"user": 65534, "group": 65534, "extra_groups": ()}
        with tempfile.TemporaryDirectory(prefix="crewfleet-nobody-") as home:
            os.chmod(home, 0o755)
            package = shutil.copytree(os.path.dirname(os.path.dirname(__file__)), os.path.join(home, "python"), ignore=shutil.ignore_patterns("__pycache__"))
            environment = {"PATH": os.defpath, "HOME": home, "TMPDIR": "/tmp"}
            for python in (sys.executable, "/usr/bin/python3"):  # one in root's own home is not for others
                command = [python, "-B", "-m", "unittest", "test_workplace.OverlayTest"]
                with contextlib.suppress(PermissionError):
                    run = subprocess.run(command, cwd=os.path.join(package, "tests"), env=environment, capture_output=True, text=True, check=False, **nobody)
                    break
        self.assertEqual(run.returncode, 0, run.stderr)


if __name__ == "__main__":
    unittest.main()
