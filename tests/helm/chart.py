"""The chart, rendered with Helm. Run by tests/helm.sh, which says where Helm and the worker are."""

import functools
import os
import re
import subprocess
from pathlib import Path

import tomllib
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/crewfleet"
MONITORING = ROOT / "deploy/monitoring"
VALUE_SETS = sorted((CHART / "ci").glob("*-values.yaml"))
MINIMAL = CHART / "ci/minimal-values.yaml"
HELM = os.environ["CREWFLEET_HELM"]
WORKER = os.environ["CREWFLEET_WORKER"]


class Refused(Exception):
    """Helm ended with an error; holds what it wrote."""


def helm(*arguments, stdin=""):
    ended = subprocess.run([HELM, *map(str, arguments)], check=False, input=stdin, capture_output=True, text=True, timeout=60)
    if ended.returncode != 0:
        raise Refused(ended.stderr)
    return ended.stdout


def render(*values, chart=CHART):
    """The manifests of a release; `values` are files and dictionaries, of which later ones win."""
    arguments, stdin = [], ""
    for layer in values:
        if isinstance(layer, dict):
            assert not stdin, "there is one standard input"
            stdin, layer = yaml.safe_dump(layer), "-"
        arguments += ["--values", layer]
    text = helm("template", "fleet", chart, "--namespace", "crews", *arguments, stdin=stdin)
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


@functools.cache
def rendered(values):
    """As `render`, once for each file; not to be changed."""
    return render(values)


def of_kind(manifests, kind):
    """By name."""
    return {m["metadata"]["name"]: m for m in manifests if m["kind"] == kind}


def one(manifests, kind, name):
    return of_kind(manifests, kind)[name]


def pod(deployment):
    return deployment["spec"]["template"]["spec"]


def container(deployment):
    [only] = pod(deployment)["containers"]
    return only


@functools.cache
def documented():
    """The sections of deploy/CONFIGURATION.md, with the keys that have no default."""
    block = re.search(r"```toml\n(.*?)```", (ROOT / "deploy/CONFIGURATION.md").read_text(), re.DOTALL)
    assert block is not None
    return tomllib.loads(re.sub(r"^# (?=[a-z_]+ = )", "", block[1], flags=re.MULTILINE))


def is_workers(manifest):
    """Whether it is a group's, and not the gateway's."""
    return "crewfleet/group" in manifest["metadata"]["labels"]


def workers(manifests):
    """The Deployments of groups, by name."""
    return {name: deployment for name, deployment in of_kind(manifests, "Deployment").items() if is_workers(deployment)}


def configurations(manifests):
    """The crewfleet.toml of each group, by its Deployment's name."""
    maps = of_kind(manifests, "ConfigMap")
    return {name: maps[name]["data"]["crewfleet.toml"] for name in workers(manifests)}


def for_each(kind, only=lambda _: True):
    """Makes a check a test of every manifest of a kind, which it gets beside all that is rendered with it."""

    def decorate(check):
        @functools.wraps(check)
        def test(self):
            found = 0
            for values in VALUE_SETS:
                for name, manifest in of_kind(rendered(values), kind).items():
                    if only(manifest):
                        found += 1
                        with self.subTest(values=values.name, kind=kind, name=name):
                            check(self, manifest, rendered(values))
            self.assertGreater(found, 0, f"no value set makes such a {kind}")

        return test

    return decorate
