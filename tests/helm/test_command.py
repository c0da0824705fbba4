"""The pod of the `crewfleet` command that the chart's README shows is one that Kubernetes takes, and says what it does."""

import re
import subprocess
import unittest
from pathlib import Path

import kubernetes_validate
import yaml
from chart import CHART, WORKER
from test_schemas import KUBERNETES


def shown():
    """The manifest of the page."""
    page = (CHART / "README.md").read_text()
    [block] = re.findall(r"```yaml\n# crewfleet-cli.yaml\n(.*?)```", page, re.DOTALL)
    return yaml.safe_load(block)


class Command(unittest.TestCase):
    def test_it_fits_its_schema(self):
        for version in KUBERNETES:
            kubernetes_validate.validate(shown(), version, strict=True)

    def test_it_meets_the_restricted_standard(self):
        spec = shown()["spec"]
        [container] = spec["containers"]
        self.assertTrue(spec["securityContext"]["runAsNonRoot"])
        self.assertEqual(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault")
        security = container["securityContext"]
        self.assertFalse(security["allowPrivilegeEscalation"])
        self.assertTrue(security["readOnlyRootFilesystem"])
        self.assertEqual(security["capabilities"]["drop"], ["ALL"])
        self.assertFalse(spec["automountServiceAccountToken"])
        self.assertEqual(spec["restartPolicy"], "Never")

    def test_its_url_comes_from_the_secret_that_the_page_makes(self):
        [container] = shown()["spec"]["containers"]
        [url] = [entry for entry in container["env"] if entry["name"] == "CREWFLEET__BROKER__URL"]
        self.assertEqual(url["valueFrom"]["secretKeyRef"], {"name": "crewfleet-broker", "key": "broker-url"})

    def test_the_command_takes_its_arguments(self):
        [container] = shown()["spec"]["containers"]
        environment = {"CREWFLEET__BROKER__URL": "amqp://nobody:nothing@127.0.0.1:1/%2f"}
        environment |= {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
        program = Path(WORKER).parent / "crewfleet"
        ended = subprocess.run([program, *container["args"]], check=False, env=environment, capture_output=True, text=True, timeout=60)
        # No broker is there; a mistake in the arguments or the configuration would be 2.
        self.assertEqual(ended.returncode, 3, ended.stderr)


if __name__ == "__main__":
    unittest.main()
