"""The packaged chart is whole: what it takes from deploy/monitoring is in it."""

import tempfile
import unittest
from pathlib import Path

import tomllib
import yaml
from chart import CHART, ROOT, VALUE_SETS, helm, render, rendered


class Package(unittest.TestCase):
    def test_it_renders_as_the_folder_does(self):
        with tempfile.TemporaryDirectory() as folder:
            helm("package", CHART, "--destination", folder)
            [package] = Path(folder).iterdir()
            for values in VALUE_SETS:
                with self.subTest(values=values.name):
                    self.assertEqual(render(values, chart=package), rendered(values))

    def test_its_version_is_the_workers(self):
        version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
        self.assertEqual((chart["version"], chart["appVersion"]), (version, version))


if __name__ == "__main__":
    unittest.main()
