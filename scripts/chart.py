#!/usr/bin/env python3
"""Checks of the Helm chart that need more than Helm. scripts/chart.sh calls it.

    chart.py schema [--write]        values.schema.json has the configuration's own definitions
    chart.py values                  values.yaml has every value that the schema has, and a comment on it
    chart.py objects FILE VERSION…   what was rendered: valid for these versions, and without surprises
    chart.py self-check FILE         faults put into what was rendered of ci/everything.yaml are found
    chart.py policies FILE           the admission policies in it let through what our programs do, no more
    chart.py gateway-config FILE GATEWAY    the GatewayConfig in it, as that program may check it here
    chart.py agent-config FILE AGENT        the AgentConfig in it is valid for that program
    chart.py alerts FILE             the PrometheusRule in it, as a file for promtool; none: nothing
    chart.py metrics                 each metric of an alert is one of the gateway's or the agent's
    chart.py refused HELM            wrong values are refused, each with a word of the reason
"""

import json
import pathlib
import re
import subprocess
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHART = ROOT / "helm/tidegate"
# Of other projects, so Kubernetes' schemas have them not. Their form is looked at here.
FOREIGN = {"ServiceMonitor": "monitoring.coreos.com/v1", "PrometheusRule": "monitoring.coreos.com/v1"}
# Host paths that may be mounted, and what for.
HOST_PATHS = {
    "/proc/sys/net": "settings of the network namespace",
    "/dev/net/tun": "tunnels in user space",
    "/var/lib/tidegate/agent": "the agent's key",
    "/var/lib/tidegate/gateway": "the gateway's keys",
}
CAPABILITIES = {
    "prepare": {"CHOWN"},
    "agent": {"NET_ADMIN"},
    "uninstall": {"NET_ADMIN"},
    "gateway": {"NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE"},
}
WORKLOADS = {"DaemonSet", "Deployment", "Job", "Pod"}
CLUSTER_SCOPED = {
    "ClusterRole", "ClusterRoleBinding", "IngressClass", "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}  # fmt: skip
# What nobody of ours needs: rights to give oneself more rights, or to run something.
FORBIDDEN = {
    ("", "pods"), ("", "pods/exec"), ("", "serviceaccounts/token"), ("", "nodes/proxy"),
    ("rbac.authorization.k8s.io", "roles"), ("rbac.authorization.k8s.io", "clusterroles"),
    ("apps", "daemonsets"), ("apps", "deployments"),
}  # fmt: skip

# Values, and a word of what Helm has to say about them.
REFUSED = [
    ("{nosuch: 1}", "nosuch"),
    ("{agent: {enabled: 'yes'}}", "boolean"),
    ("{agent: {unknown: 1}}", "unknown"),
    ("{gateway: {kind: statefulset}}", "kind"),
    ("{gateway: {replicas: 0}}", "replicas"),
    ("{gateway: {alb: {public: {listen: {http: 70000}}}}}", "http"),
    ("{gateway: {alb: {public: {lisen: {}}}}}", "lisen"),
    ("{gateway: {alb: {public: {ingressClass: other}}}}", "ingressClass"),
    ("{gateway: {l4: {enabled: true, snatt: true}}}", "snatt"),
    ("{gateway: {l4: {enabled: true}}}", "gateway.l4.interfaces"),
    ("{gateway: {nodeSelector: {tidegate.io/edge: null}}}", "gateway.nodeSelector"),
    ("{gateway: {vpn: {enabled: 1}}}", "boolean"),
    ("{overlay: {mode: plain}}", "mode"),
    ("{overlay: {mtu: 100}}", "mtu"),
    ("{overlay: {serviceSubnets: [everything]}}", "serviceSubnets"),
    ("{overlay: {enabled: false}}", "agent.enabled"),
    ("{image: {digest: 'sha256:1'}}", "digest"),
    ("{image: {pullPolicy: Sometimes}}", "pullPolicy"),
    ("{security: {runAsUser: 1000}}", "runAsUser"),
    ("{security: {privileged: true}}", "privileged"),
    ("{ingressClasses: {default: both}}", "default"),
    ("{ingressClasses: {private: tidegate-public}, gateway: {alb: {private: {enabled: true}}}}",
     "ingressClasses.private"),
    ("{rbac: {secrets: {namespaces: shop}}}", "namespaces"),
    ("{rbac: {secrets: {namespaces: [UPPER]}}}", "namespaces"),
    ("{serviceAccount: {gateway: {create: false}}}", "serviceAccount.gateway.name"),
    ("{api: {host: 10.0.0.1}}", "api.port"),
    ("{agent: {statePath: /var/lib/tidegate/gateway}}", "agent.statePath"),
    ("{agent: {statePath: relative}}", "statePath"),
    ("{agent: {admin: {address: '127.0.0.1'}}, monitoring: {serviceMonitor: {enabled: true}}}",
     "agent.admin.address"),
    ("{tests: {url: 'http://x\"; reboot'}}", "url"),
]  # fmt: skip


def reachable(definitions, names):
    """The definitions of these names, and of all that they refer to."""
    found, todo = {}, list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = definitions[name]
            todo += re.findall(r'"#/\$defs/(\w+)"', json.dumps(definitions[name]))
    return dict(sorted(found.items()))


def schema(write):
    """The sections alb, l4 and vpn of the values are the configuration's own."""
    path = CHART / "values.schema.json"
    values = json.loads(path.read_text())
    definitions = json.loads((ROOT / "configs/schema.json").read_text())["$defs"]
    wanted = reachable(definitions, ["Alb", "L4", "Vpn"])
    if write:
        path.write_text(json.dumps(values | {"$defs": wanted}, indent=2, ensure_ascii=False) + "\n")
        return []
    if values["$defs"] != wanted:
        return ["values.schema.json: $defs have drifted; write them: python3 scripts/chart.py schema --write"]
    return []


def open_objects(node, at="values.schema.json"):
    """Objects with properties that take others, too."""
    if isinstance(node, dict):
        if "properties" in node and "allOf" not in node and node.get("type") == "object":
            if node.get("additionalProperties") is not False:
                yield at
        for key, value in node.items():
            yield from open_objects(value, f"{at}/{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from open_objects(value, f"{at}/{index}")


def values():
    """values.yaml and its schema have the same keys, and no section goes without a comment."""
    faults = [f"{at}: takes any key" for at in open_objects(json.loads((CHART / "values.schema.json").read_text()))]
    text = (CHART / "values.yaml").read_text()
    schema_of = json.loads((CHART / "values.schema.json").read_text())

    def walk(node, kinds, at):
        known = kinds.get("properties")
        if known is None:
            return
        for key in sorted(set(known) - set(node or {}) - {"global"}):
            if not optional(at):
                faults.append(f"values.yaml: has no {at}{key}, which the schema has")
        for key, value in (node or {}).items():
            if isinstance(value, dict) and key in known:
                walk(value, known[key], f"{at}{key}.")

    walk(yaml.safe_load(text), schema_of, "")
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if re.match(r"[a-zA-Z]", line) and not lines[number - 1].startswith("#"):
            faults.append(f"values.yaml:{number + 1}: no comment on {line.split(':')[0]}")
    return faults


def optional(at):
    """Keys of Kubernetes' own forms, which aren't the chart's values."""
    return at.endswith(("updateStrategy.", "rollingUpdate.", "resources.", "seccompProfile.", "seLinuxOptions."))


def documents(path):
    """The objects of a rendered file."""
    return [document for document in yaml.safe_load_all(pathlib.Path(path).read_text()) if document]


def objects(path, *versions):
    """Everything that must hold for a rendered set."""
    text = pathlib.Path(path).read_text()
    return [*judged(documents(path), versions), *comments(path, text)]


def judged(rendered, versions):
    """The same, of what can be seen without comments."""
    import kubernetes_validate

    faults = []
    crds = {crd["spec"]["names"]["kind"]: crd for crd in custom_kinds()}
    for item in rendered:
        what = f"{item['kind']}/{item['metadata']['name']}"
        if item["kind"] in FOREIGN:
            if item["apiVersion"] != FOREIGN[item["kind"]]:
                faults.append(f"{what}: apiVersion {item['apiVersion']}")
            continue
        if item["kind"] in crds:
            faults += [f"{what}: {fault}" for fault in by_crd(item, crds[item["kind"]])]
            continue
        for version in versions:
            # Kubernetes has admission policies' v1 since 1.30; the chart leaves them out before.
            if version == "1.29" and item["kind"].startswith("ValidatingAdmissionPolicy"):
                continue
            try:
                kubernetes_validate.validate(item, version, strict=True)
            except Exception as error:  # noqa: BLE001: its kinds of errors have no common base
                faults.append(f"{what}: not valid for Kubernetes {version}: {error}")
        if (item["kind"] in CLUSTER_SCOPED) == ("namespace" in item["metadata"]):
            faults.append(f"{what}: namespace is {item['metadata'].get('namespace')!r}")
        if item["kind"] in WORKLOADS:
            faults += [f"{what}: {fault}" for fault in pods(item)]
        if item["kind"] in ("ClusterRole", "Role"):
            faults += [f"{what}: {fault}" for fault in rights(item)]
    faults += connected(rendered)
    return faults


def custom_kinds():
    """Our CRDs."""
    return [document for path in sorted((CHART / "crds").glob("*.yaml")) for document in documents(path)]


def by_crd(item, crd):
    """What an object of our own kinds has wrong."""
    import jsonschema

    version = next(v for v in crd["spec"]["versions"] if item["apiVersion"].endswith("/" + v["name"]))
    validator = jsonschema.Draft202012Validator(version["schema"]["openAPIV3Schema"])
    return [error.message for error in validator.iter_errors(item)]


def pods(item):
    """What a pod's form has that it should not have, or lacks."""
    spec = item["spec"] if item["kind"] == "Pod" else item["spec"]["template"]["spec"]
    test = "helm.sh/hook" in item["metadata"].get("annotations", {})
    if spec.get("hostPID") or spec.get("hostIPC"):
        yield "shares the host's processes"
    for volume in spec.get("volumes", []):
        if "hostPath" in volume and (test or volume["hostPath"]["path"] not in HOST_PATHS):
            yield f"mounts the host's {volume['hostPath']['path']}"
        if "hostPath" in volume and "type" not in volume["hostPath"]:
            yield f"mounts the host's {volume['hostPath']['path']} whatever it is"
    init = spec.get("initContainers", [])
    for container in init + spec["containers"]:
        name, context = container["name"], container.get("securityContext", {})
        if context.get("privileged") or context.get("procMount", "Default") != "Default":
            yield f"{name}: is privileged"
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"{name}: can write its root"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{name}: no seccomp profile"
        if "ALL" not in context.get("capabilities", {}).get("drop", []):
            yield f"{name}: keeps capabilities"
        extra = set(context["capabilities"].get("add", [])) - CAPABILITIES.get(name, set())
        if extra:
            yield f"{name}: has capabilities {sorted(extra)}"
        root = context.get("runAsUser") == 0
        if context.get("runAsNonRoot") is not (not root) or "runAsUser" not in context:
            yield f"{name}: whether it is root is left open"
        # Escalation is for file capabilities alone, which root doesn't need.
        if context.get("allowPrivilegeEscalation") is not (not root and name in ("agent", "uninstall", "gateway")):
            yield f"{name}: allowPrivilegeEscalation is {context.get('allowPrivilegeEscalation')}"
        if not {"requests", "limits"} <= container.get("resources", {}).keys():
            yield f"{name}: no resources"
        if not test and name != "done" and container not in init and not {"livenessProbe", "readinessProbe"} <= container.keys():
            yield f"{name}: no probes"
        # The kubelet replaces what stands so, in arguments; a shell's own variables must not.
        known = {entry["name"] for entry in container.get("env", [])}
        for used in re.findall(r"\$\((\w+)\)", "\n".join(container.get("args", []))):
            if used in known:
                yield f"{name}: $({used}) in arguments is replaced by the kubelet"
    if spec.get("automountServiceAccountToken") is not (not test):
        yield "whether it has a token is left open"


def rights(item):
    """Rights that nobody of ours should have."""
    for rule in item["rules"]:
        if "*" in rule["apiGroups"] + rule["resources"] + rule["verbs"]:
            yield f"a rule for everything: {rule}"
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                if (group, resource) in FORBIDDEN or {"escalate", "bind", "impersonate"} & set(rule["verbs"]):
                    yield f"may {rule['verbs']} {resource}"
                if resource == "secrets" and not set(rule["verbs"]) <= {"get", "list", "watch"}:
                    yield "may change Secrets"


def comments(path, text):
    """Every rule of a role says why."""
    in_role, before = False, ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("kind: "):
            in_role = line in ("kind: ClusterRole", "kind: Role")
        if in_role and line.lstrip().startswith("- apiGroups:") and not before.lstrip().startswith("#"):
            yield f"{path}:{number}: a rule without a comment: {line.strip()}"
        before = line


def connected(rendered):
    """What refers to something refers to what is there."""
    have = {(item["kind"], item["metadata"]["name"]) for item in rendered}
    outside = {("ServiceAccount", "by-hand")}
    for item in rendered:
        what = f"{item['kind']}/{item['metadata']['name']}"
        if item["kind"] in ("ClusterRoleBinding", "RoleBinding"):
            wanted = [(item["roleRef"]["kind"], item["roleRef"]["name"])]
            wanted += [(subject["kind"], subject["name"]) for subject in item["subjects"]]
        elif item["kind"] in ("DaemonSet", "Deployment"):
            spec = item["spec"]["template"]["spec"]
            wanted = [("ServiceAccount", spec["serviceAccountName"])]
            wanted += [("ConfigMap", v["configMap"]["name"]) for v in spec["volumes"] if "configMap" in v]
            labels = item["spec"]["template"]["metadata"]["labels"]
            if not item["spec"]["selector"]["matchLabels"].items() <= labels.items():
                yield f"{what}: its selector doesn't select its pods"
        elif item["kind"] == "ValidatingAdmissionPolicyBinding":
            wanted = [("ValidatingAdmissionPolicy", item["spec"]["policyName"])]
        else:
            continue
        for pair in wanted:
            if pair not in have | outside:
                yield f"{what}: there is no {pair[0]} {pair[1]}"
    both = sorted(pair for pair in have if sum((i["kind"], i["metadata"]["name"]) == pair for i in rendered) > 1)
    for kind, twice in both:
        places = [i["metadata"].get("namespace") for i in rendered if (i["kind"], i["metadata"]["name"]) == (kind, twice)]
        if len(set(places)) < len(places):
            yield f"{kind} {twice} is there twice"


def configuration(path, key):
    """A program's configuration out of its ConfigMap, as text; none if there is none."""
    for item in documents(path):
        if item["kind"] == "ConfigMap" and key in item["data"]:
            return item["data"][key].replace("$(NODE_NAME)", "node-1").replace("$(HOST_IP)", "192.0.2.1")
    return None


def schema_of(program):
    """The configuration's schema, as a program prints it; none if it can't."""
    done = subprocess.run([program, "schema"], text=True, capture_output=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else None


def gateway_config(path, program):
    """The gateway's configuration. What its version hasn't is left out, and told."""
    config = yaml.safe_load(configuration(path, "gateway.yaml"))
    known = schema_of(program)["$defs"]
    if "kubernetes" not in known["Source"]["properties"]:
        print("chart: this gateway has no source.kubernetes: its configuration is checked without", file=sys.stderr)
        config["source"] = {"manifests": "manifests"}
    if "podCIDRs" not in known["Overlay"]["properties"]:
        print("chart: this gateway has no overlay: its configuration is checked without", file=sys.stderr)
        del config["overlay"]
    return yaml.safe_dump(config)


def agent_config(path, program):
    """What the agent's configuration has wrong."""
    import jsonschema

    text = configuration(path, "agent.yaml")
    if text is None:
        return []
    known = schema_of(program)
    if known is None:
        print("chart: this edge-agent prints no schema: its configuration is not checked", file=sys.stderr)
        return []
    errors = jsonschema.Draft202012Validator(known).iter_errors(yaml.safe_load(text))
    return [f"agent.yaml: {error.json_path}: {error.message}" for error in errors]


def alerts(path):
    """The rules as Prometheus itself reads them."""
    for item in documents(path):
        if item["kind"] == "PrometheusRule":
            return yaml.safe_dump(item["spec"])
    return None


def metrics():
    """Alerts ask for what there is."""
    documented = (ROOT / "docs/operations.md").read_text()
    # The gateway's sources have them without the prefix.
    printed = (ROOT / "edge-agent/src/metrics.rs").read_text()
    printed += "".join(path.read_text() for path in (ROOT / "gateway/src/metrics").rglob("*.rs"))
    for name in ("edges/metrics.rs", "overlay/view.rs"):
        printed += (ROOT / "gateway/src" / name).read_text()
    prefixes = ("", "tidegate_", "tidegate_holding_")
    text = (CHART / "alerts.yaml").read_text()
    faults = []
    for group in yaml.safe_load(text).values():
        for alert in group:
            for metric in set(re.findall(r"tidegate_[a-z0-9_]*[a-z0-9]\b(?!\()", alert["expr"])):
                known = f"`{metric}`" in documented or any(
                    f'"{metric.removeprefix(prefix)}"' in printed for prefix in prefixes
                )
                if not known and "__name__" not in alert["expr"]:
                    faults.append(f"alerts.yaml: {alert['alert']}: there is no metric {metric}")
    return faults


def policies(path):
    """Admission policies let through what our programs do, and nothing else."""
    import celpy

    rendered = documents(path)
    faults, count = [], 0
    for component, cases in (("agent", agent_cases()), ("gateway", gateway_cases())):
        item = next(
            item for item in rendered
            if item["kind"] == "ValidatingAdmissionPolicy" and item["metadata"]["name"].endswith(component)
        )  # fmt: skip
        account = next(
            binding["subjects"][0] for binding in rendered
            if binding["kind"] == "ClusterRoleBinding" and binding["metadata"]["name"].endswith(component)
        )  # fmt: skip
        own = f"system:serviceaccount:{account['namespace']}:{account['name']}"
        for what, request, old, new, expected in cases:
            request["userInfo"].setdefault("username", own)
            found = admitted(celpy, item["spec"], request, old, new)
            if (found is None) != (expected is None) or (expected and expected not in found):
                faults.append(f"{item['metadata']['name']}: {what}: {found or 'is let through'}")
            count += 1
    return faults, count


def admitted(celpy, spec, request, old, new):
    """Why a policy refuses a request; none if it doesn't."""
    environment = celpy.Environment()
    known = {"request": request, "oldObject": old, "object": new, "variables": {}}

    def value(expression):
        program = environment.program(environment.compile(expression))
        return program.evaluate({name: celpy.json_to_cel(each) for name, each in known.items()})

    if not all(value(condition["expression"]) for condition in spec["matchConditions"]):
        return None
    for variable in spec.get("variables", []):
        known["variables"][variable["name"]] = json.loads(
            json.dumps(value(variable["expression"]), cls=celpy.CELJSONEncoder)
        )
    for validation in spec["validations"]:
        if not value(validation["expression"]):
            return validation["message"]
    return None


def agent_cases():
    """What an agent may ask of Nodes and what not."""
    key, node = "tidegate.io/wireguard-public-keys", "authentication.kubernetes.io/node-name"

    def asked(name="node-1", extra=None):
        user = {"extra": {node: ["node-1"]} if extra is None else extra}
        return {"operation": "UPDATE", "name": name, "userInfo": user}

    def made(annotations=None, labels=None, spec=None, **more):
        metadata = {"name": "node-1", "labels": labels or {"zone": "a"}} | more
        if annotations is not None:
            metadata["annotations"] = annotations
        return {"metadata": metadata, "spec": spec or {"podCIDR": "10.244.1.0/24"}}

    there = made({"other": "1", key: "A"})
    stranger = asked()
    stranger["userInfo"]["username"] = "system:node:node-2"
    return [
        ("the first annotation", asked(), made(), made({key: "A"}), None),
        ("a new key", asked(), there, made({"other": "1", key: "B,A"}), None),
        ("no key any more", asked(), there, made({"other": "1"}), None),
        ("nothing", asked(), there, there, None),
        ("somebody else", stranger, there, made(spec={}), None),
        ("another Node", asked(name="node-2"), there, made({"other": "1", key: "B"}), "its own Node"),
        ("a token of no node", asked(extra={}), there, there, "its own Node"),
        ("a token of two", asked(extra={node: ["node-1", "node-2"]}), there, there, "its own Node"),
        ("another annotation", asked(), there, made({"other": "2", key: "A"}), "annotations"),
        ("one more annotation", asked(), there, made({"other": "1", "x": "", key: "A"}), "annotations"),
        ("one annotation less", asked(), there, made({key: "A"}), "annotations"),
        ("one that begins like ours", asked(), made(), made({"tidegate.io.example/x": "1"}), "annotations"),
        ("a label", asked(), made(), made(labels={"zone": "b"}), "labels"),
        ("a taint", asked(), made(), made(spec={"podCIDR": "10.244.1.0/24", "taints": []}), "spec"),
        ("a finalizer", asked(), made(), made(finalizers=["x"]), "finalizers"),
        ("an owner", asked(), made(), made(ownerReferences=[{"name": "x"}]), "owners"),
    ]


def gateway_cases():
    """What the gateway may ask of Services and VpnConnections, besides their status."""

    def asked():
        return {"operation": "UPDATE", "name": "web", "userInfo": {"extra": {}}}

    def made(finalizers=None, spec=None, **more):
        metadata = {"name": "web"} | more
        if finalizers is not None:
            metadata["finalizers"] = finalizers
        return {"metadata": metadata, "spec": spec or {"type": "LoadBalancer"}}

    ours, others = "tidegate.io/addresses", "service.kubernetes.io/load-balancer-cleanup"
    stranger = asked()
    stranger["userInfo"]["username"] = "jane"
    return [
        ("its finalizer", asked(), made(), made([ours]), None),
        ("its finalizer beside another", asked(), made([others]), made([others, ours]), None),
        ("its finalizer gone", asked(), made([ours]), made(), None),
        ("somebody else", stranger, made(), made(spec={"type": "ClusterIP"}), None),
        ("another's finalizer gone", asked(), made([others, ours]), made(), "finalizers"),
        ("another's finalizer", asked(), made(), made([others]), "finalizers"),
        ("the spec", asked(), made(), made(spec={"type": "ClusterIP"}), "nothing of Services"),
        ("an annotation", asked(), made(), made(annotations={"a": "b"}), "nothing of Services"),
        ("a label", asked(), made(), made(labels={"a": "b"}), "nothing of Services"),
        ("an owner", asked(), made(), made(ownerReferences=[{"name": "x"}]), "nothing of Services"),
    ]


def self_check(path):
    """Faults that are put into a rendered set (ci/everything.yaml) have to be found."""
    container = lambda item: item["spec"]["template"]["spec"]["containers"][0]  # noqa: E731
    pod = lambda item: item["spec"]["template"]["spec"]  # noqa: E731
    wrong = [
        ("DaemonSet", lambda i: container(i)["securityContext"].update(privileged=True), "privileged"),
        ("DaemonSet", lambda i: container(i)["securityContext"]["capabilities"]["add"].append("SYS_ADMIN"), "SYS_ADMIN"),
        ("DaemonSet", lambda i: container(i)["securityContext"].update(readOnlyRootFilesystem=False), "write its root"),
        ("DaemonSet", lambda i: container(i)["securityContext"].pop("seccompProfile"), "seccomp"),
        ("DaemonSet", lambda i: container(i).update(imagePullPolice="Never"), "not valid"),
        ("DaemonSet", lambda i: container(i)["args"].append("$(NODE_NAME)"), "replaced by the kubelet"),
        ("DaemonSet", lambda i: pod(i)["volumes"].append({"name": "x", "hostPath": {"path": "/etc", "type": ""}}), "/etc"),
        ("DaemonSet", lambda i: pod(i).update(hostPID=True), "processes"),
        ("DaemonSet", lambda i: pod(i).update(serviceAccountName="other"), "there is no ServiceAccount"),
        ("Deployment", lambda i: i["spec"].update(replicas="two"), "not valid"),
        ("Deployment", lambda i: container(i).pop("readinessProbe"), "no probes"),
        ("IngressClass", lambda i: i["metadata"].update(namespace="tidegate"), "namespace is"),
        ("Service", lambda i: i["metadata"].pop("namespace"), "namespace is"),
        ("ClusterRole", lambda i: i["rules"][0]["verbs"].append("*"), "for everything"),
        ("ClusterRole", lambda i: i["rules"][0].update(apiGroups=[""], resources=["secrets"], verbs=["patch"]), "change Secrets"),
        ("ClusterRole", lambda i: i["rules"][0].update(apiGroups=[""], resources=["pods"]), "pods"),
        ("PodDisruptionBudget", lambda i: i["spec"].update(maxUnavailble=1), "not valid"),
        ("ServiceMonitor", lambda i: i.update(apiVersion="monitoring.coreos.com/v2"), "apiVersion"),
    ]  # fmt: skip
    missed = []
    for kind, change, word in wrong:
        rendered = documents(path)
        change(next(item for item in rendered if item["kind"] == kind))
        found = list(judged(rendered, ["1.34"]))
        if not any(word in fault for fault in found):
            missed.append(f"self-check: a {kind} with {word!r} is not found; found: {found}")
    text = pathlib.Path(path).read_text()
    bare = re.sub(r"\n +#.*(?=\n +- apiGroups: \[tidegate)", "", text, count=1)
    if not list(comments(path, bare)):
        missed.append("self-check: a rule without a comment is not found")
    return missed, len(wrong) + 1


def refused(helm):
    """Wrong values are refused, and by name."""
    faults = []
    for text, word in REFUSED:
        command = [helm, "template", "tidegate", str(CHART), "--namespace", "tidegate", "--values", "-"]
        done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
        if done.returncode == 0:
            faults.append(f"values {text}: are not refused")
        elif word not in done.stderr:
            faults.append(f"values {text}: are refused without {word!r}: {done.stderr.strip()}")
    return faults, len(REFUSED)


def main():
    command, *rest = sys.argv[1:]
    if command == "gateway-config":
        print(gateway_config(*rest), end="")
        return
    if command == "alerts":
        print(alerts(rest[0]) or "", end="")
        return
    count = None
    if command == "schema":
        faults = schema("--write" in rest)
    elif command == "values":
        faults = values()
    elif command == "objects":
        faults = objects(*rest)
        count = len(documents(rest[0]))
    elif command == "self-check":
        faults, count = self_check(*rest)
    elif command == "agent-config":
        faults = agent_config(*rest)
    elif command == "policies":
        faults, count = policies(*rest)
    elif command == "metrics":
        faults = metrics()
    elif command == "refused":
        faults, count = refused(*rest)
    else:
        sys.exit(__doc__)
    for fault in faults:
        print(f"chart: {fault}", file=sys.stderr)
    if faults:
        sys.exit(1)
    print(f"chart: {command} {pathlib.Path(rest[0]).name if rest else ''}: fine{f', {count}' if count else ''}")


if __name__ == "__main__":
    main()
