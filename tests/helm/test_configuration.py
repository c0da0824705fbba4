"""The crewfleet.toml that the chart writes says what the values say, and the worker takes it."""

import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import tomllib
import yaml
from chart import CHART, VALUE_SETS, WORKER, configurations, documented, rendered


def asked(configuration):
    """Lets a worker load a configuration to ask a worker that is not there: 1 when nobody answers, 2 when it is refused."""
    with tempfile.TemporaryDirectory() as folder:
        # What Kubernetes mounts, and the image holds.
        for file in re.findall(r'"(/(?:run/secrets|srv)/[^"]+)"', configuration):
            here = Path(folder + file)
            if here.suffix or here.name == "broker-url":
                here.parent.mkdir(parents=True, exist_ok=True)
                here.write_text("amqp://localhost\n" if here.name == "broker-url" else "NAME=value\n")
            else:
                here.mkdir(parents=True)
        configuration = re.sub(r'"(/run/secrets|/srv)/', rf'"{folder}\1/', configuration)
        file = Path(folder) / "crewfleet.toml"
        file.write_text(configuration)
        # Port 1 of the loopback interface is nobody's.
        environment = {"PATH": os.environ["PATH"], "CREWFLEET__WORKER__ADMIN_ADDR": "127.0.0.1:1"}
        command: list = [WORKER, "--config", file, "healthcheck"]
        return subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=60)


class Configuration(unittest.TestCase):
    def test_the_worker_accepts_it(self):
        for values in VALUE_SETS:
            for name, text in configurations(rendered(values)).items():
                with self.subTest(values=values.name, deployment=name):
                    answer = asked(text)
                    self.assertEqual(answer.returncode, 1, answer.stderr)
                    self.assertIn("127.0.0.1:1/healthz does not answer", answer.stderr)

    def test_the_worker_holds_the_computed_grace_against_its_own(self):
        [text] = configurations(rendered(CHART / "ci/minimal-values.yaml")).values()
        drain = tomllib.loads(text)["worker"]["drain_grace_s"]
        answer = asked(text.replace(f"drain_grace_s = {drain}\n", f"drain_grace_s = {drain + 16}\n"))
        self.assertEqual(answer.returncode, 2, answer.stderr)
        self.assertIn("termination_grace_s", answer.stderr)

    def test_it_says_what_the_values_say(self):
        for values in VALUE_SETS:
            groups = yaml.safe_load(values.read_text())["crewGroups"]
            for name, text in configurations(rendered(values)).items():
                written = tomllib.loads(text)
                group = groups[name.removeprefix("fleet-crewfleet-")]
                with self.subTest(values=values.name, deployment=name):
                    for crew, section in group["crews"].items():
                        wanted = {key: value for key, value in section.items() if key != "envSecret"}
                        if "envSecret" in section:
                            wanted["env_file"] = f"/run/secrets/crews/{crew}/crew.env"
                        # As text, since 4 is not 4.0 there.
                        self.assertEqual(json.dumps(written["crews"][crew], sort_keys=True), json.dumps(wanted, sort_keys=True))
                    self.assertEqual(written["crews"].keys(), group["crews"].keys())
                    self.assertLessEqual(group.get("worker", {}).items(), written["worker"].items())

    def test_the_schema_has_the_keys_that_are_documented(self):
        sections = documented()
        crew_keys = set().union(*sections["crews"].values())
        definitions = yaml.safe_load((CHART / "values.schema.json").read_text())["definitions"]
        computed = {
            "brokerSettings": {"url", "url_file", "management_url", "namespace", "consumer_timeout_s"},
            "workerSettings": {"id", "admin_addr", "data_dir", "drain_grace_s", "termination_grace_s"},
        }
        for name, keys in {
            "brokerSettings": set(sections["broker"]),
            "workerSettings": set(sections["worker"]),
            "crew": crew_keys | {"envSecret"},
            "retry": set(sections["crews"]["marketing"]["retry"]),
        }.items():
            with self.subTest(definition=name):
                self.assertEqual(set(definitions[name]["properties"]), keys - computed.get(name, set()))


if __name__ == "__main__":
    unittest.main()
