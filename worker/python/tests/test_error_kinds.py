"""Every kind of error that a worker or a crew host can give stands in the table of deploy/CONFIGURATION.md, and no other."""

import re
import unittest
from collections.abc import Iterator
from pathlib import Path

WORKER = Path(__file__).parents[2]
TABLE = WORKER.parent / "deploy" / "CONFIGURATION.md"
# Where Rust makes an error of a reply: by its kind, or by a name for it.
_NEW = re.compile(r'KickoffError::new\(\s*(?:"(\w+)"|(\w+))')
_NAMED_RUST = (
    re.compile(r'refuse\(\s*"(\w+)"'),
    re.compile(r'(?:_KIND|INVALID_INPUTS): &str = "(\w+)"'),
    re.compile(r'\bkind: "(\w+)"\.(?:into|to_owned)'),
    re.compile(r'kind\.unwrap_or_else\(\|\| "(\w+)"'),
)
_EITHER = re.compile(r"let kind = (if .*?);", re.DOTALL)
# The names whose values the expressions above find.
_NAMES = {"kind", "HOST_LOST_KIND", "INVALID_INPUTS"}
# In Python, an object of an error has "retryable" beside its kind.
_DICT = re.compile(r'"kind": (?:"(\w+)"|(\w+)),')
_NAMED_PYTHON = (re.compile(r'_error\("(\w+)"'), re.compile(r'^ +kind(?:, [^=\n]+)? = "(\w+)"', re.MULTILINE))


def rust() -> Iterator[tuple[Path, str]]:
    """The files of worker and shared, without their tests."""
    for folder in (WORKER / "src", *(WORKER.parent / "shared").glob("*/src")):
        for file in folder.rglob("*.rs"):
            if "tests" not in file.parts and file.name != "tests.rs":
                yield file, file.read_text(encoding="utf-8").partition("#[cfg(test)]\nmod tests {")[0].partition("#[cfg(test)]\n#[allow")[0]


def python() -> Iterator[tuple[Path, str]]:
    """The crew host's files that make errors."""
    for file in (WORKER / "python" / "main.py", *(WORKER / "python" / "crewfleet_host").rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        if '"retryable"' in text:
            yield file, text


class ErrorKindsTest(unittest.TestCase):
    def in_the_code(self) -> set[str]:
        kinds: set[str] = set()
        for file, text in rust():
            for kind, name in _NEW.findall(text):
                self.assertTrue(kind or name in _NAMES, f"{file}: KickoffError::new({name}, …): teach this test what that is")
                kinds.add(kind)
            for expression in _NAMED_RUST:
                kinds.update(expression.findall(text))
            for either in _EITHER.findall(text) if "KickoffError" in text else ():
                kinds.update(re.findall(r'\{\s*"(\w+)"\s*\}', either))
        for file, text in python():
            for kind, name in _DICT.findall(text):
                self.assertTrue(kind or name == "kind", f'{file}: "kind": {name}: teach this test what that is')
                kinds.add(kind)
            for expression in _NAMED_PYTHON:
                kinds.update(expression.findall(text))
        return kinds - {""}

    def test_the_table_has_them_all(self) -> None:
        section = TABLE.read_text(encoding="utf-8").partition("### Error kinds\n")[2].partition("\n#")[0]
        listed = [kind for line in section.splitlines() if line.startswith("| `") for kind in re.findall(r"`(\w+)`", line.split("|")[1])]
        self.assertEqual(len(listed), len(set(listed)))
        self.assertEqual(set(listed) ^ self.in_the_code(), set())

    def test_it_finds_what_it_should(self) -> None:
        found = self.in_the_code()
        # One of each way of making it.
        for kind in ("crashed", "empty_body", "host_lost", "out_of_memory", "failed", "invalid_json", "env_file_unreadable", "build_failed", "system_exit"):
            self.assertIn(kind, found)


if __name__ == "__main__":
    unittest.main()
