"""The chart, rendered with Helm. Run by tests/helm.sh, which says where Helm and the worker are."""

import functools
import os
import subprocess
from pathlib import Path

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


def configurations(manifests):
    """The crewfleet.toml of each Deployment, by name."""
    maps = of_kind(manifests, "ConfigMap")
    return {name: maps[name]["data"]["crewfleet.toml"] for name in of_kind(manifests, "Deployment")}
