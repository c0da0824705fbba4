"""What keeps a fork small: it writes to few of the pages it shares, and maps no memory twice."""

import inspect
import os
import resource
import sys
import traceback
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

from crewfleet_host.frame_stack import with_room  # noqa: E402
from crewfleet_host.signatures import remember_signatures  # noqa: E402


def faults(function, *arguments) -> int:
    """The minor page faults of a call."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    function(*arguments)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def nested(depth: int) -> None:
    """Calls a hundred times at every depth, so also from the last frame that fits into a chunk."""
    for _ in range(100):
        int_of(depth)
    if depth:
        nested(depth - 1)


def int_of(number: int) -> int:
    return int(number)


class FrameStackTest(unittest.TestCase):
    def test_nested_calls_map_no_memory_again_and_again(self) -> None:
        if faults(nested, 800) < 200:
            self.skipTest("this Python keeps what it maps for frames")
        self.assertLess(faults(with_room, nested, 800), 100)

    def test_arguments_results_and_exceptions_pass(self) -> None:
        self.assertEqual(with_room(divmod, 7, 2), (3, 1))
        try:
            with_room(divmod, 7, 0)
        except ZeroDivisionError as error:
            names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        self.assertEqual(names[1:], ["with_room", "_caught"])


class SignaturesTest(unittest.TestCase):
    def test_a_builtin_class_is_parsed_once(self) -> None:
        plain = inspect.signature(list)
        remember_signatures()
        self.assertEqual(inspect.signature(list), plain)
        self.assertIs(inspect.signature(list), inspect.signature(list))
        self.assertEqual(str(inspect.signature([].append)), "(object, /)")
        with self.assertRaises(ValueError):
            inspect.signature(dict)


if __name__ == "__main__":
    unittest.main()
