"""Hosts on odd projects and odd machines: what kickoffs find there, by an overlay and by links."""

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
from odd_places import make


class OddPlaces:
    """A small project, in a new folder of `base`; each host is a process of its own: see odd_places.py."""

    base: str | None = None

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="crewfleet-odd-", dir=self.base)
        self.addCleanup(folder.cleanup)
        os.chmod(folder.name, 0o755)
        self.home = os.path.realpath(folder.name)
        self.project = os.path.join(self.home, "project")
        make(self.project, {"data/prices.csv": "bread,3\n", "report.md": "old\n"})

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
        self.assertEqual(sorted(set(told["whole"]) & {"many/0", "many/1", "many/2"}), ["many/1", "many/2"])

    def test_a_linked_file_that_an_import_replaces_stays_as_it_was(self) -> None:
        large = "x" * (2 << 20)
        make(self.project, {"large.bin": large, "folder/large.bin": large})
        replace = 'append("new", "built"), os.replace("new", "large.bin"), os.remove("folder/large.bin"), append("folder/large.bin", "built")'
        for way in ("links", "auto"):
            told = self.host('[read("large.bin"), read("folder/large.bin")]', build=f"[{replace}]", working_dir_way=way)
            self.assertEqual((told["value"], told["changed"], told["warned"]), (["built", "built"], [], []), told)
            for name in ("large.bin", "folder/large.bin"):
                self.assertEqual(odd_places.read(os.path.join(self.project, name)), large)

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


class LargePlacesTest(OddPlaces, unittest.TestCase):
    """Projects with more than a kickoff is shown, in memory where there is such a folder: a disk takes its time."""

    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

    def test_new_files_in_a_large_folder_are_the_kickoffs_own(self) -> None:
        make(self.project, {f"many/{number}": "" for number in range(2_500)})
        told = self.host('[append("many/new", "x"), len(os.listdir("many"))][1]', working_dir_way="links")
        self.assertEqual((told["value"], told["whole"], told["changed"], told["warned"]), (2_501, [], ["many/new"], []), told)
        self.assertFalse(os.path.exists(os.path.join(self.project, "many", "new")))
        self.assertIn("more files of the project: too large, or too many, to be copied", told["notes"][0])

    def test_a_change_in_a_folder_that_is_linked_whole_is_told_of(self) -> None:
        make(self.project, {f"a/many/{number}": "" for number in range(2_500)} | {"b/many/deep/old": "", ".git/HEAD": "", "c/kept/x": ""})
        os.makedirs(os.path.join(self.project, "b/many/more"))
        for number in range(2_500):
            os.link(os.path.join(self.project, "report.md"), os.path.join(self.project, "b/many/more", str(number)))
        for do, warned in (
            ('append("a/many/new", "")', ["a/many/new"]),
            ('append("a/many/7", "more")', ["a/many/7"]),
            ('os.remove("a/many/8")', ["a/many"]),
            ('append("b/many/more/new", "")', ["b/many/more/new"]),
            ('append(".git/index", "")', [".git"]),
            ('read("a/many/9")', []),
        ):
            told = self.host(do, working_dir_way="links")
            self.assertEqual(told["warned"], warned, told)
        self.assertEqual((told["whole"], len(told["notes"])), (["a/many", "b/many/more"], 1))
        self.assertTrue(told["notes"][0].startswith("a/many and 1 more folder of the project: too large to be shown"), told["notes"])


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

    def test_what_others_own_and_this_user_may_write_can_be_written(self) -> None:
        changed = ["free.csv", "open/new", "shared/group.csv", "shared/new", "shared/own.csv"]
        do = f"[append(place, '!') for place in {changed}] and read('free.csv')"
        make(self.project, {"free.csv": "a", "shared/group.csv": "b", "shared/own.csv": "c", "open/x": "d"})
        # As nobody the kernel shows all strangers.
        for user in (65534, 4322):
            for name, owner, mode in (
                ("", (user, user), 0o755),
                ("free.csv", (0, 0), 0o666),
                ("shared", (user, 4321), 0o2775),
                ("shared/group.csv", (user, 4321), 0o664),
                ("shared/own.csv", (user, user), 0o640),
                ("open", (0, 0), 0o777),
            ):
                os.chown(os.path.join(self.project, name), *owner)
                os.chmod(os.path.join(self.project, name), mode)
            for spawned in (False, True):
                told = self.host(do, f"unshare(NEWNS); become_nobody(home, {user}, (4321,))", home=self.home, spawned=spawned)
                self.assertEqual((told["way"], told["value"], sorted(told["changed"])), ("overlay", "a!", changed), told)
            shutil.rmtree(os.path.join(self.home, "data"))
        self.assertEqual(odd_places.read(os.path.join(self.project, "free.csv")), "a")

    def test_what_others_own_and_is_too_much_to_copy_makes_links(self) -> None:
        os.chown(self.project, 65534, 65534)
        make(self.project, {"large.bin": "x" * (2 << 20)})
        told = self.nobody("open('large.bin').close()")
        self.assertEqual(told["way"], "overlay", told)  # nobody may not write it at home either
        os.chmod(os.path.join(self.project, "large.bin"), 0o666)
        told = self.nobody("append('large.bin', '!')")
        self.assertEqual((told["way"], told["value"], told["warned"]), ("links", None, ["large.bin"]), told)
        self.assertIn("large.bin is another user's", told["reason"])

    def test_a_file_system_that_clones_makes_copies_of_any_size(self) -> None:
        image = os.path.join(self.home, "image")
        with open(image, "wb") as file:
            file.truncate(512 << 20)
        makers = {"xfs": ["mkfs.xfs", "-q", image], "btrfs": ["mkfs.btrfs", "-q", image]}
        kind = next((kind for kind, (program, *_) in makers.items() if shutil.which(program)), None)
        if kind is None:
            self.skipTest("neither mkfs.xfs nor mkfs.btrfs is installed")
        subprocess.run(makers[kind], check=True)
        volume = os.path.join(self.home, "volume")
        os.mkdir(volume)
        if subprocess.run(["mount", "-o", "loop", image, volume], capture_output=True, check=False).returncode != 0:
            self.skipTest("no loop device can be mounted here")
        self.addCleanup(subprocess.run, ["umount", volume], check=True)
        project = os.path.join(volume, "project")
        make(project, {"large.bin": "x" * (20 << 20)})
        folders = {"working_dir": project, "data_dir": os.path.join(volume, "data"), "working_dir_way": "links"}
        told = self.host('[os.path.islink("large.bin"), append("large.bin", "!")][0]', **folders)
        self.assertEqual((told["value"], told["changed"], told["warned"], told["notes"]), (False, ["large.bin"], [], []), told)
        self.assertEqual(os.path.getsize(os.path.join(project, "large.bin")), 20 << 20)

    def test_a_project_that_is_read_only(self) -> None:
        told = self.nobody('append("report.md", "new")', "bind(project); mount('none', project, None, MS_BIND | MS_REMOUNT | MS_RDONLY)", project=self.project)
        self.assertEqual((told["way"], told["changed"]), ("overlay", ["report.md"]), told)

    def test_data_dir_on_file_systems_of_all_kinds(self) -> None:
        data = os.path.join(self.home, "data")
        os.mkdir(data)
        on_overlay = (
            "[os.mkdir(f'{home}/{n}') for n in 'luw'] and mount('overlay', data, 'overlay', 0, f'lowerdir={home}/l,upperdir={home}/u,workdir={home}/w')"
        )
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


if __name__ == "__main__":
    unittest.main()
