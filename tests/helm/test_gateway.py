"""What the rendered gateway promises: its configuration is one that the program takes, its secrets can be changed while it runs,
each of its pods has a store of its own, and whatever leads to it arrives."""

import ipaddress
import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import tomllib
import yaml
from chart import CHART, MINIMAL, ROOT, VALUE_SETS, WORKER, container, documented, for_each, helm, is_workers, of_kind, one, pod, render, rendered

GATEWAY = CHART / "ci/gateway-values.yaml"
KEDA = CHART / "ci/keda-values.yaml"
PRODUCTION = CHART / "ci/production-values.yaml"
PROGRAM = Path(WORKER).parent / "crewfleet"
NAME = "fleet-crewfleet-gateway"
LABELS = {"app.kubernetes.io/name": "crewfleet-gateway", "app.kubernetes.io/instance": "fleet"}
# What the chart computes.
COMPUTED = {"addr", "admin_addr", "tokens_file", "tokens_used_file", "tls_cert_file", "tls_key_file", "file"}
GIB = 2**30


def is_gateways(manifest):
    return not is_workers(manifest)


def text_of(manifests):
    return one(manifests, "ConfigMap", NAME)["data"]["crewfleet.toml"]


def configuration(manifests):
    return tomllib.loads(text_of(manifests))


def mounted(deployment):
    """Every file of a Secret, by its place in the container: the Secret's name and key."""
    folders = {mount["name"]: mount["mountPath"] for mount in container(deployment)["volumeMounts"]}
    return {
        f"{folders[volume['name']]}/{item['path']}": (volume["secret"]["secretName"], item["key"])
        for volume in pod(deployment)["volumes"]
        for item in volume.get("secret", {}).get("items", [])
    }


def asked(text):
    """Lets the program load a configuration to ask a gateway that is not there: 1 when nobody answers, 2 when it is refused."""
    with tempfile.TemporaryDirectory() as folder:
        url = Path(folder) / "broker-url"
        url.write_text("amqp://localhost\n")
        file = Path(folder) / "crewfleet.toml"
        file.write_text(text.replace("/run/secrets/crewfleet/broker-url", str(url)))
        # Port 1 of the loopback interface is nobody's.
        environment = {"PATH": os.environ["PATH"], "CREWFLEET__GATEWAY__ADMIN_ADDR": "127.0.0.1:1"}
        command: list = [PROGRAM, "--config", file, "healthcheck", "--gateway"]
        return subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=60)


class Configuration(unittest.TestCase):
    @for_each("Deployment", is_gateways)
    def test_the_program_accepts_it(self, _, manifests):
        # The certificate for RabbitMQ is in a Secret that nobody has here.
        text = re.sub(r'^(ca_file|client_(cert|key)_file) = ".*"\n', "", text_of(manifests), flags=re.MULTILINE)
        answer = asked(text)
        self.assertEqual(answer.returncode, 1, answer.stderr)
        self.assertIn("127.0.0.1:1/healthz does not answer", answer.stderr)

    def test_the_program_refuses_what_it_does_not_know(self):
        for section in ("gateway", "gateway.store", "webhooks", "sinks.crm"):
            text = text_of(rendered(PRODUCTION if section in ("webhooks", "sinks.crm") else GATEWAY))
            answer = asked(text.replace(f"[{section}]\n", f"[{section}]\nnot_a_key = 1\n"))
            self.assertEqual(answer.returncode, 2, answer.stderr)
            self.assertIn(f'unknown key "{section}.not_a_key"', answer.stderr)

    def test_it_says_what_the_values_say(self):
        for values in (GATEWAY, KEDA, PRODUCTION):
            given, written = yaml.safe_load(values.read_text()), configuration(rendered(values))
            broker, gateway = given.get("broker", {}), given["gateway"]
            settings = gateway.get("settings", {})
            wanted = {
                "broker": {"namespace": broker.get("namespace", "kickoff")} | broker.get("settings", {}) | gateway.get("broker", {}).get("settings", {}),
                "gateway": {key: value for key, value in settings.items() if key != "store"},
                "gateway.store": settings.get("store", {}),
                "webhooks": gateway.get("webhooks", {}),
                "sinks": gateway.get("sinks", {}),
            }
            found = {section: written.get(section, {}) for section in wanted} | {"gateway.store": written["gateway"]["store"]}
            self.assertEqual(set(found["sinks"]), set(wanted["sinks"]))
            for section, keys in wanted.items():
                for key, value in keys.items():
                    with self.subTest(values=values.name, section=section, key=key):
                        # As text, since 4 is not 4.0 there.
                        self.assertEqual(json.dumps(found[section][key], sort_keys=True), json.dumps(value, sort_keys=True))

    def test_the_schema_has_the_keys_that_are_documented(self):
        gateway = documented()["gateway"]
        definitions = json.loads((CHART / "values.schema.json").read_text())["definitions"]
        self.assertEqual(set(definitions["gatewaySettings"]["properties"]), set(gateway) - COMPUTED)
        self.assertEqual(set(definitions["storeSettings"]["properties"]), set(gateway["store"]) - COMPUTED)

    def test_the_schema_has_the_keys_of_sinks_but_for_secrets(self):
        sections, definitions = documented(), json.loads((CHART / "values.schema.json").read_text())["definitions"]
        # Secrets come in files; where the metrics are is the gateway's.
        self.assertEqual(set(definitions["webhookSettings"]["properties"]), set(sections["webhooks"]) - {"secret", "admin_addr"})
        documented_keys = set().union(*sections["sinks"].values()) - {"url", "secret", "token"}
        self.assertEqual(set(definitions["sink"]["properties"]), documented_keys | {"secret_file", "token_file"})


class Secrets(unittest.TestCase):
    @for_each("Deployment", is_gateways)
    def test_the_configuration_names_the_files_that_are_mounted(self, deployment, manifests):
        written = configuration(manifests)
        named = {value for section in written.values() for value in section.values() if str(value).startswith("/run/secrets/")}
        self.assertEqual(set(mounted(deployment)), named)
        self.assertIn(written["gateway"]["tokens_file"], named)

    @for_each("Deployment", is_gateways)
    def test_they_change_while_it_runs(self, deployment, _):
        for mount in container(deployment)["volumeMounts"]:
            self.assertNotIn("subPath", mount, "Kubernetes never changes such a file")
        self.assertNotIn("crewfleet/secrets-revision", deployment["spec"]["template"]["metadata"]["annotations"])

    def test_they_are_those_of_the_values(self):
        def secrets(values):
            return mounted(one(rendered(values), "Deployment", NAME))

        broker, tokens = "/run/secrets/crewfleet/broker-url", "/run/secrets/gateway/tokens/tokens.json"
        self.assertEqual(secrets(GATEWAY), {broker: ("crewfleet-broker", "broker-url"), tokens: ("crewfleet-tokens", "tokens.json")})
        [cluster] = of_kind(rendered(KEDA), "RabbitmqCluster")
        self.assertEqual(secrets(KEDA)[broker], (f"{cluster}-default-user", "connection_string"))
        tls = "/run/secrets/gateway/tls/tls"
        wanted = {
            broker: ("crewfleet-gateway-broker", "url"),
            tokens: ("callers", "callers.json"),
            f"{tls}.crt": ("gateway-tls", "tls.crt"),
            f"{tls}.key": ("gateway-tls", "tls.key"),
        }
        self.assertEqual(secrets(PRODUCTION), wanted)

    def test_one_secret_may_have_the_urls_of_both(self):
        own_key = render(GATEWAY, {"gateway": {"broker": {"existingSecret": {"key": "gateway-url"}}}})
        urls = [mounted(d)["/run/secrets/crewfleet/broker-url"] for d in of_kind(own_key, "Deployment").values()]
        self.assertEqual(sorted(urls), [("crewfleet-broker", "broker-url"), ("crewfleet-broker", "gateway-url")])


class Pods(unittest.TestCase):
    @for_each("Deployment", is_gateways)
    def test_each_has_a_store_of_its_own_that_holds_what_is_kept(self, deployment, manifests):
        written = configuration(manifests)["gateway"]
        [mount] = [mount for mount in container(deployment)["volumeMounts"] if mount["mountPath"] == "/var/lib/crewfleet"]
        [volume] = [volume for volume in pod(deployment)["volumes"] if volume["name"] == mount["name"]]
        self.assertNotIn("persistentVolumeClaim", volume, "all replicas would share it")
        if "ephemeral" in volume:
            claim = volume["ephemeral"]["volumeClaimTemplate"]["spec"]
            self.assertEqual(claim["accessModes"], ["ReadWriteOnce"])
            size = claim["resources"]["requests"]["storage"]
        else:
            size = volume["emptyDir"]["sizeLimit"]
        store = written["store"]
        kept = sum(store[f"{what}_max_bytes"] for what in ("events", "replies", "inputs"))
        self.assertGreaterEqual(int(size.removesuffix("Gi")) * GIB, (2.5 if store.get("full_text") else 2) * kept)
        for file in (store["file"], written["tokens_used_file"]):
            self.assertEqual(str(Path(file).parent), mount["mountPath"])
        self.assertNotIn("readOnly", mount)

    @for_each("Deployment", is_gateways)
    def test_calls_are_taken_and_ended_within_the_grace(self, deployment, manifests):
        lame_duck = configuration(manifests)["gateway"]["lame_duck_s"]
        self.assertGreaterEqual(lame_duck, 15, "an ingress controller needs seconds to notice")
        self.assertEqual(pod(deployment)["terminationGracePeriodSeconds"], lame_duck + 10 + 15)
        self.assertNotIn("lifecycle", container(deployment), "a hook would eat of the grace period")

    @for_each("Deployment", is_gateways)
    def test_the_ports_are_those_of_the_configuration(self, deployment, manifests):
        written = configuration(manifests)["gateway"]
        ports = {port["name"]: port["containerPort"] for port in container(deployment)["ports"]}
        self.assertEqual({"api": written["addr"], "admin": written["admin_addr"]}, {name: f"0.0.0.0:{p}" for name, p in ports.items()})
        self.assertEqual(container(deployment)["args"], ["--config", "/etc/crewfleet/crewfleet.toml", "gateway"])

    def test_the_image_is_that_of_the_command(self):
        images = [container(one(rendered(values), "Deployment", NAME))["image"] for values in (GATEWAY, PRODUCTION)]
        self.assertEqual(images, ["crewfleet/crewfleet:0.1.0", "registry.example.com/crewfleet:0.1.0"])

    def test_what_a_pod_may_have_reaches_it(self):
        deployment = one(rendered(PRODUCTION), "Deployment", NAME)
        values = yaml.safe_load(PRODUCTION.read_text())
        given, spec, only = values["gateway"], pod(deployment), container(deployment)
        for key in ("nodeSelector", "tolerations", "priorityClassName"):
            self.assertEqual(spec[key], given[key])
        self.assertEqual(spec["imagePullSecrets"], values["imagePullSecrets"])
        self.assertEqual({c["whenUnsatisfiable"] for c in spec["topologySpreadConstraints"]}, {"DoNotSchedule"})
        self.assertEqual(only["env"], given["env"])
        self.assertEqual(only["resources"]["limits"], given["resources"]["limits"])
        for part, here in (("volumes", spec), ("volumeMounts", only)):
            self.assertIn(given[part][0], here[part])
        metadata = deployment["spec"]["template"]["metadata"]
        self.assertLessEqual(given["podAnnotations"].items(), metadata["annotations"].items())
        self.assertLessEqual(given["podLabels"].items(), metadata["labels"].items())


class Rollouts(unittest.TestCase):
    def changed(self, change):
        """Whether a change of the values replaces the gateway's pods, and which workers'."""
        before, after = (of_kind(m, "Deployment") for m in (rendered(GATEWAY), render(GATEWAY, change)))
        return {name for name in before if before[name]["spec"]["template"] != after[name]["spec"]["template"]}

    def test_only_what_it_is_about_rolls(self):
        self.assertEqual(self.changed({"gateway": {"settings": {"store": {"meta_keys": ["order"]}}}}), {NAME})
        self.assertEqual(self.changed({"gateway": {"replicas": 5}}), set())
        self.assertEqual(self.changed({"crewGroups": {"trial": {"crews": {"echo": {"timeout_s": 5}}}}}), {"fleet-crewfleet-trial"})
        self.assertEqual(self.changed({"secretsRevision": "2026-11-30"}), {"fleet-crewfleet-trial"})
        self.assertEqual(self.changed({"broker": {"settings": {"heartbeat_s": 11}}}), {"fleet-crewfleet-trial", NAME})


class Objects(unittest.TestCase):
    def test_there_is_none_unless_it_is_wanted(self):
        self.assertEqual([m["kind"] for m in rendered(MINIMAL) if "gateway" in json.dumps(m["metadata"])], [])

    def test_what_a_gateway_has(self):
        def kinds(values):
            return {m["kind"] for m in rendered(values) if m["metadata"]["name"] == NAME}

        always = {"ConfigMap", "Deployment", "PodDisruptionBudget", "Service"}
        self.assertEqual(kinds(GATEWAY), always | {"HTTPRoute", "NetworkPolicy"})
        self.assertEqual(kinds(KEDA), always)
        self.assertEqual(kinds(PRODUCTION), always | {"Ingress", "NetworkPolicy", "PodMonitor"})

    def test_they_are_labelled_as_its_own(self):
        for values in VALUE_SETS:
            for manifest in rendered(values):
                if manifest["metadata"]["name"] == NAME:
                    with self.subTest(values=values.name, kind=manifest["kind"]):
                        labels = manifest["metadata"]["labels"]
                        self.assertLessEqual(LABELS.items(), labels.items())
                        self.assertLessEqual({"app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"}, labels.keys())

    def test_selectors_tell_gateways_from_workers(self):
        def selectors(manifest):
            spec = manifest.get("spec", {})
            for found in (spec.get("selector"), spec.get("podSelector")):
                if found:
                    yield found.get("matchLabels", found)

        for values in VALUE_SETS:
            pods = {name: d["spec"]["template"]["metadata"]["labels"] for name, d in of_kind(rendered(values), "Deployment").items()}
            for manifest in rendered(values):
                for selector in selectors(manifest):
                    name = manifest["metadata"]["name"]
                    chosen = {pod for pod, labels in pods.items() if selector.items() <= labels.items()}
                    with self.subTest(values=values.name, kind=manifest["kind"], name=name):
                        if name == NAME:
                            self.assertEqual(chosen, {NAME})
                            self.assertEqual(selector, LABELS)
                        else:
                            self.assertNotIn(NAME, chosen)


class WaysToIt(unittest.TestCase):
    @for_each("Service")
    def test_the_service_leads_to_the_api_alone(self, service, manifests):
        deployment = one(manifests, "Deployment", NAME)
        [port] = service["spec"]["ports"]
        self.assertEqual(port["targetPort"], "api")
        self.assertIn("api", [port["name"] for port in container(deployment)["ports"]])
        has_tls = "tls_cert_file" in configuration(manifests)["gateway"]
        self.assertEqual(port["appProtocol"], "https" if has_tls else "http")

    def test_the_services_port_is_that_of_its_protocol_unless_it_is_said(self):
        ports = [one(rendered(v), "Service", NAME)["spec"]["ports"][0]["port"] for v in (GATEWAY, PRODUCTION, KEDA)]
        self.assertEqual(ports, [80, 443, 8443])
        types = [one(rendered(v), "Service", NAME)["spec"]["type"] for v in (GATEWAY, KEDA)]
        self.assertEqual(types, ["ClusterIP", "LoadBalancer"])

    @for_each("Ingress")
    def test_the_ingress_leads_every_path_to_the_service(self, ingress, manifests):
        service = one(manifests, "Service", NAME)
        given = yaml.safe_load(PRODUCTION.read_text())["gateway"]["ingress"]
        self.assertEqual([rule["host"] for rule in ingress["spec"]["rules"]], given["hosts"])
        for rule in ingress["spec"]["rules"]:
            [path] = rule["http"]["paths"]
            self.assertEqual((path["path"], path["pathType"]), ("/", "Prefix"))
            backend = path["backend"]["service"]
            self.assertEqual(backend["name"], service["metadata"]["name"])
            self.assertIn(backend["port"]["name"], [port["name"] for port in service["spec"]["ports"]])
        self.assertEqual((ingress["spec"]["ingressClassName"], ingress["spec"]["tls"]), (given["className"], given["tls"]))
        self.assertEqual(ingress["metadata"]["annotations"], given["annotations"])

    @for_each("HTTPRoute")
    def test_the_route_leads_every_path_to_the_service(self, route, manifests):
        service = one(manifests, "Service", NAME)
        given = yaml.safe_load(GATEWAY.read_text())["gateway"]["httpRoute"]
        [rule] = route["spec"]["rules"]
        self.assertEqual(rule["matches"], [{"path": {"type": "PathPrefix", "value": "/"}}])
        [backend] = rule["backendRefs"]
        self.assertEqual(backend["name"], service["metadata"]["name"])
        self.assertIn(backend["port"], [port["port"] for port in service["spec"]["ports"]])
        self.assertEqual(rule["timeouts"], given["timeouts"])
        self.assertEqual((route["spec"]["parentRefs"], route["spec"]["hostnames"]), (given["parentRefs"], given["hostnames"]))

    @for_each("NetworkPolicy", is_gateways)
    def test_callers_reach_the_api_and_prometheus_the_metrics(self, policy, manifests):
        self.assertEqual(policy["spec"]["policyTypes"], ["Ingress", "Egress"])
        self.assertEqual(policy["spec"]["podSelector"], one(manifests, "Deployment", NAME)["spec"]["selector"])
        calls, scrapes = policy["spec"]["ingress"]
        self.assertEqual(calls["ports"], [{"protocol": "TCP", "port": "api"}])
        self.assertEqual(scrapes["ports"], [{"protocol": "TCP", "port": "admin"}])
        self.assertTrue(scrapes["from"])

    def test_whom_a_policy_lets_through_is_said_by_the_values(self):
        policies = {values: one(rendered(values), "NetworkPolicy", NAME)["spec"] for values in (GATEWAY, PRODUCTION)}
        given = yaml.safe_load(PRODUCTION.read_text())
        self.assertEqual(policies[PRODUCTION]["ingress"][0]["from"], given["networkPolicy"]["gateway"]["from"])
        self.assertNotIn("from", policies[GATEWAY]["ingress"][0])
        ports = {values: [[p["port"] for p in rule["ports"]] for rule in spec["egress"]] for values, spec in policies.items()}
        self.assertEqual(ports, {GATEWAY: [[53, 53], [5671, 5672], [80, 443]], PRODUCTION: [[53, 53], [5671], [4317], [5432, 8443], [80, 443]]})
        self.assertEqual(policies[PRODUCTION]["egress"][1]["to"], given["networkPolicy"]["broker"]["to"])

    def test_webhooks_reach_the_internet_alone_and_nothing_where_none_are_called(self):
        def egress(manifests):
            return one(manifests, "NetworkPolicy", NAME)["spec"]["egress"]

        for peer in egress(rendered(GATEWAY))[-1]["to"]:
            everywhere = ipaddress.ip_network(peer["ipBlock"]["cidr"])
            private = ["10.1.2.3", "172.20.0.1", "192.168.1.1", "169.254.169.254", "fd00::1", "fe80::1"]
            refused = [ipaddress.ip_network(network) for network in peer["ipBlock"]["except"]]
            for address in map(ipaddress.ip_address, private):
                if address.version == everywhere.version:
                    self.assertTrue(any(address in network for network in refused), address)
        without = egress(render(GATEWAY, {"gateway": {"settings": {"sinks": False}}}))
        self.assertEqual(without, egress(rendered(GATEWAY))[:-1])

    def test_prometheus_knows_it_by_a_job_of_its_own(self):
        monitor = one(rendered(PRODUCTION), "PodMonitor", NAME)["spec"]
        [endpoint] = monitor["podMetricsEndpoints"]
        self.assertEqual((endpoint["port"], endpoint["path"]), ("admin", "/metrics"))
        labels = one(rendered(PRODUCTION), "Deployment", NAME)["spec"]["template"]["metadata"]["labels"]
        # As deploy/monitoring/prometheus.yaml has it.
        self.assertEqual(labels[monitor["jobLabel"]], "crewfleet-gateway")
        self.assertIn("job_name: crewfleet-gateway\n", (ROOT / "deploy/monitoring/prometheus.yaml").read_text())


class Notes(unittest.TestCase):
    def notes(self, values):
        text = helm("install", "fleet", CHART, "--namespace", "crews", "--dry-run=client", "--values", values)
        return text.split("\nNOTES:\n")[1]

    def test_they_say_how_to_make_a_token_and_to_call(self):
        for values, secret, key, url in (
            (GATEWAY, "crewfleet-tokens", "tokens.json", "https://crews.example.com"),
            (KEDA, "crewfleet-tokens", "tokens.json", "http://fleet-crewfleet-gateway.crews.svc:8443"),
            (PRODUCTION, "callers", "callers.json", "https://crews.example.com"),
        ):
            with self.subTest(values=values.name):
                notes = self.notes(values)
                self.assertIn(f"get secret {secret} --output jsonpath='{{.data.{key.replace('.', chr(92) + '.')}}}' | base64", notes)
                self.assertIn(f"create secret generic {secret} --from-file={key}=crewfleet-tokens.json ", notes)
                self.assertIn(f"curl {url}/crews/CREW/inputs ", notes)
        self.assertNotIn("token", self.notes(MINIMAL))

    def test_the_command_makes_the_file_of_the_secret(self):
        [command] = [line for line in self.notes(GATEWAY).splitlines() if line.startswith("    crewfleet token")]
        arguments = command.replace("CALLER", "shop").replace("CREW", "echo").split()[1:]
        with tempfile.TemporaryDirectory() as folder:
            ended = subprocess.run([PROGRAM, *arguments], check=False, cwd=folder, env={}, capture_output=True, text=True, timeout=60)
            self.assertEqual(ended.returncode, 0, ended.stderr)
            [token] = json.loads((Path(folder) / "crewfleet-tokens.json").read_text())
        self.assertEqual((token["name"], token["crews"]), ("shop", ["echo"]))
        self.assertNotIn(ended.stdout.strip(), json.dumps(token))


if __name__ == "__main__":
    unittest.main()
