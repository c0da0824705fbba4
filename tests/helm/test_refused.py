"""Values that cannot be are refused, each for the reason in its first line. They come on top of ci/minimal-values.yaml, which
is accepted."""

import unittest

from chart import CHART, MINIMAL, ROOT, Refused, render

FIXTURES = sorted((ROOT / "tests/helm/refused").glob("*.yaml"))
PREFIX = "# refused: "


class RefusedValues(unittest.TestCase):
    def test_each_fixture_is_refused_for_its_reason(self):
        self.assertTrue(FIXTURES)
        for fixture in FIXTURES:
            with self.subTest(fixture=fixture.name):
                first = fixture.read_text().splitlines()[0]
                self.assertTrue(first.startswith(PREFIX), first)
                with self.assertRaises(Refused) as refused:
                    render(MINIMAL, fixture)
                self.assertIn(first.removeprefix(PREFIX), str(refused.exception))

    def test_the_defaults_alone_name_what_is_missing(self):
        with self.assertRaises(Refused) as refused:
            render(CHART / "values.yaml")
        self.assertIn("/broker/existingSecret/name", str(refused.exception))
        self.assertIn("/crewGroups", str(refused.exception))


if __name__ == "__main__":
    unittest.main()
