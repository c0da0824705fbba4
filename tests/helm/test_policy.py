"""What the rendered manifests promise, whatever the values: safe pods, time to finish, no secret in the open, one autoscaler."""

import json
import unittest

import tomllib
import yaml
from chart import (
    CHART,
    MINIMAL,
    MONITORING,
    VALUE_SETS,
    configurations,
    container,
    for_each,
    is_workers,
    of_kind,
    one,
    pod,
    render,
    rendered,
    workers,
)

PRODUCTION = CHART / "ci/production-values.yaml"
KEDA = CHART / "ci/keda-values.yaml"


class Broker(unittest.TestCase):
    def test_the_url_comes_from_the_named_secret_or_from_that_of_the_charts_own_cluster(self):
        def source(values):
            [volume] = {
                json.dumps(volume["secret"])
                for deployment in workers(rendered(values)).values()
                for volume in pod(deployment)["volumes"]
                if volume["name"] == "broker"
            }
            secret = json.loads(volume)
            [item] = secret["items"]
            return secret["secretName"], item["key"]

        self.assertEqual(source(MINIMAL), ("crewfleet-broker", "broker-url"))
        self.assertEqual(source(PRODUCTION), ("crewfleet-broker", "url"))
        # As the cluster operator names it, after the cluster.
        [cluster] = of_kind(rendered(KEDA), "RabbitmqCluster")
        self.assertEqual(source(KEDA), (f"{cluster}-default-user", "connection_string"))


class Pods(unittest.TestCase):
    @for_each("Deployment")
    def test_they_meet_the_restricted_standard(self, deployment, _):
        spec, only = pod(deployment), container(deployment)
        self.assertTrue(spec["securityContext"]["runAsNonRoot"])
        self.assertEqual(spec["securityContext"]["runAsUser"], 65532)
        self.assertEqual(spec["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
        self.assertFalse({"hostNetwork", "hostPID", "hostIPC"} & spec.keys())
        self.assertNotIn("initContainers", spec)
        for volume in spec["volumes"]:
            [source] = volume.keys() - {"name"}
            self.assertIn(source, {"configMap", "secret", "emptyDir", "ephemeral", "persistentVolumeClaim"})
        wanted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
        self.assertEqual(only["securityContext"], wanted)
        self.assertFalse(any("hostPort" in port for port in only["ports"]))

    @for_each("Deployment")
    def test_they_get_no_token_of_the_cluster(self, deployment, _):
        self.assertIs(pod(deployment)["automountServiceAccountToken"], False)
        self.assertIs(pod(deployment)["enableServiceLinks"], False)

    @for_each("Deployment")
    def test_their_memory_and_disks_have_limits_and_can_be_written_where_the_program_writes(self, deployment, _):
        only = container(deployment)
        self.assertIn("memory", only["resources"]["limits"])
        self.assertIn("memory", only["resources"]["requests"])
        sized = {v["name"] for v in pod(deployment)["volumes"] if v.get("emptyDir", {}).get("sizeLimit") or "ephemeral" in v}
        writable = {mount["mountPath"] for mount in only["volumeMounts"] if mount["name"] in sized}
        self.assertEqual(writable, {"/tmp", "/var/lib/crewfleet"})

    @for_each("Deployment", is_workers)
    def test_a_worker_has_a_folder_of_its_own(self, deployment, manifests):
        # Kubernetes gives the folder of an emptyDir to root, and the worker takes none that is another's.
        data_dir = tomllib.loads(configurations(manifests)[deployment["metadata"]["name"]])["worker"]["data_dir"]
        self.assertEqual(data_dir, "/var/lib/crewfleet/data")

    @for_each("Deployment")
    def test_only_readiness_depends_on_the_broker(self, deployment, _):
        only = container(deployment)
        probes = {probe: only[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
        wanted = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
        self.assertEqual({probe: asked["path"] for probe, asked in probes.items()}, wanted)
        self.assertEqual({asked["port"] for asked in probes.values()}, {"admin"})
        ports = ["admin"] if is_workers(deployment) else ["api", "admin"]
        self.assertEqual([port["name"] for port in only["ports"]], ports)

    @for_each("Deployment")
    def test_replicas_are_spread(self, deployment, _):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        for constraint in pod(deployment)["topologySpreadConstraints"]:
            self.assertLessEqual(constraint["labelSelector"]["matchLabels"].items(), labels.items())


class Grace(unittest.TestCase):
    @for_each("Deployment", is_workers)
    def test_longest_crew_then_drain_then_termination(self, deployment, manifests):
        name = deployment["metadata"]["name"]
        configuration = tomllib.loads(configurations(manifests)[name])
        worker = configuration["worker"]
        termination = pod(deployment)["terminationGracePeriodSeconds"]
        self.assertEqual(worker["termination_grace_s"], termination)
        self.assertLessEqual(worker["drain_grace_s"] + worker.get("cancel_grace_s", 5) + 15, termination)
        longest = max(crew.get("timeout_s", 600) for crew in configuration["crews"].values())
        if name == "fleet-crewfleet-elastic":
            self.assertEqual(worker["drain_grace_s"], 120, "as its requeueAfterSeconds says")
        else:
            self.assertLess(longest, worker["drain_grace_s"])
        self.assertNotIn("lifecycle", container(deployment), "a hook would eat of the grace period")

    def test_it_follows_the_longest_crew(self):
        longer = {"crewGroups": {"trial": {"crews": {"slow": {"runner": "builtin", "target": "sleep", "timeout_s": 4000.5}}}}}
        before, after = rendered(MINIMAL), render(MINIMAL, longer)
        periods = [pod(one(m, "Deployment", "fleet-crewfleet-trial"))["terminationGracePeriodSeconds"] for m in (before, after)]
        self.assertEqual(periods, [600 + 30 + 5 + 30, 4001 + 30 + 5 + 30])


class Secrets(unittest.TestCase):
    @for_each("Deployment")
    def test_they_are_files(self, deployment, _):
        only = container(deployment)
        for variable in only.get("env", []):
            self.assertNotIn("secretKeyRef", variable.get("valueFrom", {}))
        mounts = {mount["name"]: mount for mount in only["volumeMounts"]}
        secrets = [volume for volume in pod(deployment)["volumes"] if "secret" in volume]
        self.assertIn("broker", [volume["name"] for volume in secrets])
        for volume in secrets:
            self.assertTrue(mounts[volume["name"]]["readOnly"])
            self.assertEqual(volume["secret"]["defaultMode"], 0o440)

    @for_each("Deployment", is_workers)
    def test_the_configuration_names_the_files_that_are_mounted(self, deployment, manifests):
        configuration = tomllib.loads(configurations(manifests)[deployment["metadata"]["name"]])
        named = {configuration["broker"]["url_file"]}
        named |= {crew["env_file"] for crew in configuration["crews"].values() if "env_file" in crew}
        folders = {mount["name"]: mount["mountPath"] for mount in container(deployment)["volumeMounts"]}
        mounted = {f"{folders[volume['name']]}/{item['path']}" for volume in pod(deployment)["volumes"] for item in volume.get("secret", {}).get("items", [])}
        self.assertEqual(mounted, {file for file in named if file.startswith("/run/secrets/")})

    def test_none_is_made(self):
        for values in VALUE_SETS:
            self.assertEqual(of_kind(rendered(values), "Secret"), {})

    @for_each("ConfigMap")
    def test_none_is_shown(self, config, _):
        self.assertNotRegex(json.dumps(config["data"]), r"amqps?://|https?://[^/\s]+:[^/\s]+@")


class Rollouts(unittest.TestCase):
    def changed(self, values, change):
        """The groups whose pods a change of the values replaces."""
        before, after = (workers(m) for m in (rendered(values), render(values, change)))
        self.assertEqual(before.keys(), after.keys())
        return {name for name in before if before[name]["spec"]["template"] != after[name]["spec"]["template"]}

    def test_a_changed_configuration_rolls_its_group_alone(self):
        change = {"crewGroups": {"writers": {"crews": {"marketing": {"env": {"MODEL": "another"}}}}}}
        self.assertEqual(self.changed(PRODUCTION, change), {"fleet-crewfleet-writers"})

    def test_a_changed_broker_rolls_every_group(self):
        everything = {"fleet-crewfleet-writers", "fleet-crewfleet-reports"}
        self.assertEqual(self.changed(PRODUCTION, {"broker": {"settings": {"heartbeat_s": 11}}}), everything)
        self.assertEqual(self.changed(PRODUCTION, {"secretsRevision": "2026-11-24"}), everything)

    def test_more_replicas_roll_nothing(self):
        self.assertEqual(self.changed(PRODUCTION, {"crewGroups": {"writers": {"replicas": 9}}}), set())

    @for_each("Deployment", is_workers)
    def test_selectors_never_change(self, deployment, _):
        selector = deployment["spec"]["selector"]["matchLabels"]
        name = deployment["metadata"]["name"].removeprefix("fleet-crewfleet-")
        wanted = {"app.kubernetes.io/name": "crewfleet", "app.kubernetes.io/instance": "fleet", "crewfleet/group": name}
        self.assertEqual(selector, wanted)
        self.assertLessEqual(selector.items(), deployment["spec"]["template"]["metadata"]["labels"].items())

    def test_a_digest_stays_with_its_image(self):
        images = {name: container(d)["image"] for name, d in workers(rendered(PRODUCTION)).items()}
        self.assertEqual(images["fleet-crewfleet-reports"], "registry.example.com/crews/reports:2.3")
        self.assertRegex(images["fleet-crewfleet-writers"], r"^registry\.example\.com/crews/marketing@sha256:[0-9a-f]{64}$")
        [image] = [container(d)["image"] for d in of_kind(rendered(MINIMAL), "Deployment").values()]
        self.assertEqual(image, "crewfleet/worker:0.1.0")


class Scaling(unittest.TestCase):
    @for_each("Deployment")
    def test_each_deployment_is_scaled_by_exactly_one(self, deployment, manifests):
        targets = [s["spec"]["scaleTargetRef"]["name"] for s in of_kind(manifests, "ScaledObject").values()]
        self.assertEqual(targets.count(deployment["metadata"]["name"]) + ("replicas" in deployment["spec"]), 1)

    def test_a_deployment_may_be_scaled_to_nothing_by_hand(self):
        manifests = render(MINIMAL, {"crewGroups": {"trial": {"replicas": 0}}})
        self.assertEqual(one(manifests, "Deployment", "fleet-crewfleet-trial")["spec"]["replicas"], 0)

    @for_each("ScaledObject")
    def test_keda_counts_what_runs_and_goes_down_slowly(self, scaled, manifests):
        spec = scaled["spec"]
        self.assertIn(spec["scaleTargetRef"]["name"], of_kind(manifests, "Deployment"))
        self.assertGreaterEqual(spec["minReplicaCount"], 1)
        down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
        self.assertGreaterEqual(down["stabilizationWindowSeconds"], 600)
        self.assertEqual([policy["value"] for policy in down["policies"]], [1])
        for trigger in spec["triggers"]:
            self.assertEqual(trigger["type"], "rabbitmq")
            self.assertEqual((trigger["metadata"]["protocol"], trigger["metadata"]["mode"]), ("http", "QueueLength"))
            self.assertIn(trigger["authenticationRef"]["name"], of_kind(manifests, "TriggerAuthentication"))

    def test_keda_watches_the_queue_of_each_crew(self):
        scaled = one(rendered(KEDA), "ScaledObject", "fleet-crewfleet-elastic")
        watched = {t["metadata"]["queueName"]: t["metadata"]["value"] for t in scaled["spec"]["triggers"]}
        self.assertEqual(watched, {"kickoff.requests.echo": "64", "kickoff.requests.sleepy": "2"})

    @for_each("Deployment")
    def test_nodes_can_be_drained(self, deployment, manifests):
        budget = one(manifests, "PodDisruptionBudget", deployment["metadata"]["name"])["spec"]
        self.assertEqual(budget["selector"], deployment["spec"]["selector"])
        self.assertNotIn("minAvailable", budget)
        self.assertNotIn(budget["maxUnavailable"], (0, "0%"))


class Network(unittest.TestCase):
    @for_each("NetworkPolicy", is_workers)
    def test_only_prometheus_comes_in(self, policy, manifests):
        self.assertEqual(policy["spec"]["policyTypes"], ["Ingress", "Egress"])
        deployment = one(manifests, "Deployment", policy["metadata"]["name"])
        self.assertEqual(policy["spec"]["podSelector"], deployment["spec"]["selector"])
        [rule] = policy["spec"]["ingress"]
        self.assertEqual(rule["ports"], [{"protocol": "TCP", "port": "admin"}])
        self.assertTrue(rule["from"])

    def test_only_dns_and_the_broker_are_reached_unless_a_group_says_more(self):
        def ports(policy):
            return [[port["port"] for port in rule["ports"]] for rule in policy["spec"]["egress"]]

        self.assertEqual(ports(one(rendered(MINIMAL), "NetworkPolicy", "fleet-crewfleet-trial")), [[53, 53], [5671, 5672]])
        self.assertEqual(ports(one(rendered(PRODUCTION), "NetworkPolicy", "fleet-crewfleet-writers")), [[53, 53], [5671], [443]])


class Monitoring(unittest.TestCase):
    def test_the_job_is_one_that_the_alerts_look_for(self):
        monitor = one(rendered(PRODUCTION), "PodMonitor", "fleet-crewfleet")
        for deployment in workers(rendered(PRODUCTION)).values():
            labels = deployment["spec"]["template"]["metadata"]["labels"]
            self.assertLessEqual(monitor["spec"]["selector"]["matchLabels"].items(), labels.items())
            self.assertTrue(labels[monitor["spec"]["jobLabel"]].startswith("crewfleet"))
        [endpoint] = monitor["spec"]["podMetricsEndpoints"]
        self.assertEqual(endpoint["port"], "admin")

    def test_rabbitmq_is_asked_for_what_the_rules_are_about(self):
        [endpoint] = one(rendered(PRODUCTION), "PodMonitor", "fleet-crewfleet-rabbitmq")["spec"]["podMetricsEndpoints"]
        asked = endpoint["path"] + "?" + "&".join(f"family={family}" for family in endpoint["params"]["family"])
        self.assertIn(asked, (MONITORING / "rules.yaml").read_text())

    def test_the_rules_are_those_of_the_repository_with_runbooks_that_are_there(self):
        rendered_groups = one(rendered(PRODUCTION), "PrometheusRule", "fleet-crewfleet")["spec"]["groups"]
        base = "https://runbooks.example.com/crewfleet/"
        for group in rendered_groups:
            for rule in group["rules"]:
                if "alert" in rule:
                    address = rule["annotations"]["runbook_url"]
                    self.assertTrue(address.startswith(base), address)
                    self.assertTrue((MONITORING / "runbooks" / address.removeprefix(base)).is_file(), address)
                    rule["annotations"]["runbook_url"] = address.replace(base, "runbooks/")
        self.assertEqual(rendered_groups, yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"])

    def test_every_dashboard_is_in_a_configmap_that_grafana_looks_for(self):
        found: dict = {}
        for config in of_kind(rendered(PRODUCTION), "ConfigMap").values():
            if config["metadata"]["labels"].get("grafana_dashboard") == "1":
                found |= {name: json.loads(text) for name, text in config["data"].items()}
        wanted = {file.name: json.loads(file.read_text()) for file in (MONITORING / "dashboards").glob("*.json")}
        self.assertTrue(wanted)
        self.assertEqual(found, wanted)


class Cluster(unittest.TestCase):
    @for_each("RabbitmqCluster")
    def test_a_cluster_has_a_majority_and_outlives_the_release(self, cluster, _):
        self.assertEqual(cluster["spec"]["replicas"], 3)
        self.assertEqual(cluster["metadata"]["annotations"]["helm.sh/resource-policy"], "keep")
        [rule] = cluster["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        self.assertEqual(rule["labelSelector"]["matchLabels"], {"app.kubernetes.io/name": cluster["metadata"]["name"]})
        self.assertIn("cluster_partition_handling = pause_minority", cluster["spec"]["rabbitmq"]["additionalConfig"])


if __name__ == "__main__":
    unittest.main()
