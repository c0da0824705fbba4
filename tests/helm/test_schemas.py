"""Every manifest has only fields that Kubernetes, KEDA and the Prometheus operator know, with values of their types."""

import json
import unittest

import jsonschema
import kubernetes_validate
from chart import ROOT, VALUE_SETS, rendered

CRDS = {file.stem: json.loads(file.read_text()) for file in (ROOT / "tests/helm/crds").glob("*.json")}
KUBERNETES = ["1.30", kubernetes_validate.latest_version()]
# RabbitMQ's operator has no schema here.
UNCHECKED = {"RabbitmqCluster"}


def closed(schema):
    """The schema, refusing fields that it does not list. The API server would drop them without a word."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(part) for key, part in schema.items()}
    lists_fields = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if lists_fields and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    return schema


class Schemas(unittest.TestCase):
    def test_manifests_fit_their_schemas(self):
        seen = set()
        for values in VALUE_SETS:
            for manifest in rendered(values):
                kind = manifest["kind"]
                seen.add(kind)
                with self.subTest(values=values.name, kind=kind, name=manifest["metadata"]["name"]):
                    if kind in CRDS:
                        crd = CRDS[kind]
                        self.assertEqual(manifest["apiVersion"], f"{crd['group']}/{crd['version']}")
                        jsonschema.validate(manifest, closed(crd["schema"]))
                    elif kind not in UNCHECKED:
                        for version in KUBERNETES:
                            kubernetes_validate.validate(manifest, version, strict=True)
        self.assertEqual(set(CRDS) - seen, set(), "no value set makes these")

    def test_an_unknown_field_is_found(self):
        for values in VALUE_SETS:
            for manifest in rendered(values):
                if manifest["kind"] in UNCHECKED or "spec" not in manifest:
                    continue
                broken = json.loads(json.dumps(manifest))
                broken["spec"]["notAField"] = 1
                with self.subTest(values=values.name, kind=manifest["kind"]):
                    if manifest["kind"] in CRDS:
                        with self.assertRaises(jsonschema.ValidationError):
                            jsonschema.validate(broken, closed(CRDS[manifest["kind"]]["schema"]))
                    else:
                        with self.assertRaises(kubernetes_validate.ValidationError):
                            kubernetes_validate.validate(broken, KUBERNETES[-1], strict=True)


if __name__ == "__main__":
    unittest.main()
