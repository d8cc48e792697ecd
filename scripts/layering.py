#!/usr/bin/env python3
"""Checks who imports whom, and the few rules of the source that no compiler knows.

The tables below are docs/architecture.md's "Who may import whom". A crate that stands in no
table is an error, so a new one has to be placed. Needs Python 3.11 and cargo; prints every
violation and exits 1 if there is one.
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Of our own crates, which one may import which.
OURS = {
    "tidegate-model": set(),
    "tidegate-http1": set(),
    "tidegate-packet": {"tidegate-model"},
    "tidegate-ipsec": {"tidegate-model", "tidegate-packet"},
    "tidegate-ingest": {"tidegate-model"},
    "tidegate-plan": {"tidegate-model"},
    "tidegate-netdev": {"tidegate-model", "tidegate-plan"},
    "tidegate-holding": {"tidegate-model"},
    "tidegate-overlay": {"tidegate-model"},
    "tidegate-wireguard": {
        "tidegate-model",
        "tidegate-packet",
        "tidegate-plan",
        "tidegate-netdev",
        "tidegate-overlay",
    },
    "tidegate-cluster": {"tidegate-model", "tidegate-ingest"},
    "tidegate-settings": {"tidegate-model", "tidegate-ingest"},
    "tidegate-source": {"tidegate-model", "tidegate-ingest"},
    "tidegate-apiserver": {"tidegate-ingest"},
    "tidegate-testkit": {"tidegate-model", "tidegate-ingest", "tidegate-plan", "certs"},
    "gateway": {
        "tidegate-model",
        "tidegate-ingest",
        "tidegate-plan",
        "tidegate-http1",
        "tidegate-ipsec",
        "tidegate-netdev",
        "tidegate-cluster",
        "tidegate-holding",
        "tidegate-overlay",
        "tidegate-wireguard",
        "tidegate-settings",
        "tidegate-source",
    },
    "edge-agent": {
        "tidegate-model",
        "tidegate-ingest",
        "tidegate-plan",
        "tidegate-netdev",
        "tidegate-cluster",
        "tidegate-overlay",
        "tidegate-wireguard",
        "tidegate-settings",
        "tidegate-source",
    },
    "certs": set(),
    "loadtest": {
        "tidegate-model",
        "tidegate-ingest",
        "tidegate-plan",
        "tidegate-http1",
        "tidegate-overlay",
        "tidegate-wireguard",
        "tidegate-apiserver",
        "certs",
    },
}
# Besides, for tests alone: what any crate may import, and what single ones may.
FOR_TESTS = {"tidegate-testkit", "tidegate-apiserver", "certs"}
FOR_TESTS_OF = {
    "tidegate-plan": {"tidegate-ingest"},  # golden tests begin with manifests
    "tidegate-cluster": {"tidegate-source"},  # both sources deliver the same
}

# The pure crates, and all that they may import from others. Dev-dependencies are free.
PURE = {
    "tidegate-model": {"ipnet", "serde", "sha2", "thiserror"},
    "tidegate-http1": {"memchr", "thiserror"},
    "tidegate-packet": {"ipnet", "thiserror"},
    "tidegate-ipsec": {
        "aes",
        "aws-lc-rs",
        "cbc",
        "crypto-bigint",
        "des",
        "foldhash",
        "ipnet",
        "ipsec-parser",
        "rustls-pki-types",
        "rustls-webpki",
        "thiserror",
        "x509-parser",
        "zeroize",
    },
    "tidegate-holding": {"foldhash", "thiserror"},
    "tidegate-overlay": {"aws-lc-rs", "boringtun", "ipnet", "thiserror", "zeroize"},
    "tidegate-plan": {"foldhash", "http", "ipnet", "regex", "serde", "thiserror"},
    "tidegate-ingest": {
        "ipnet",
        "k8s-openapi",
        "regex",
        "rustls",  # only to check that a certificate and a key belong together
        "rustls-pki-types",
        "schemars",
        "serde",
        "serde-saphyr",
        "serde_ignored",
        "serde_json",
        "serde_path_to_error",
        "thiserror",
        "x509-parser",
    },
}

# What a pure crate must not reach by any way.
DRIVERS = {"tokio", "mio", "hyper", "h2", "kube", "kube-client", "notify", "socket2", "async-std"}

# Except: boringtun's device feature, which loadtest wants of it as a peer, brings sockets along.
# What overlay uses of it, its noise module, has none.
REACHES_ANYWAY = {"tidegate-overlay": {"socket2"}}

# What a pure crate's source must not do itself.
AMBIENT = re.compile(
    r"\bstd::(fs|env|process|thread|os)\b|\bstd::net::(Tcp|Udp)"
    r"|\b(Instant|SystemTime)::now\b|\bRandomState\b"
)

MAX_LINES = 800


def metadata():
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def reachable(resolve, start):
    """Names of all packages that a package is built with, dev-dependencies of its own excepted."""
    nodes = {node["id"]: node for node in resolve["nodes"]}
    seen, todo = {start}, [start]
    while todo:
        for dependency in nodes[todo.pop()]["deps"]:
            kinds = {kind["kind"] for kind in dependency["dep_kinds"]}
            # A build script's dependencies are not in the program.
            if None in kinds and dependency["pkg"] not in seen:
                seen.add(dependency["pkg"])
                todo.append(dependency["pkg"])
    return seen


def check_imports(data):
    members = {p["id"]: p for p in data["packages"] if p["id"] in data["workspace_members"]}
    names = {package["id"]: package["name"] for package in data["packages"]}
    for identifier, package in members.items():
        name = package["name"]
        if name not in OURS:
            yield f"{name}: stands in no table of scripts/layering.py; place it"
            continue
        for dependency in package["dependencies"]:
            other, for_tests = dependency["name"], dependency["kind"] == "dev"
            if other in OURS or dependency.get("path"):
                allowed = OURS[name]
                if for_tests:
                    allowed = allowed | FOR_TESTS | FOR_TESTS_OF.get(name, set())
                if other not in allowed:
                    yield f"{name}: may not import {other}"
            elif name in PURE and not for_tests and other not in PURE[name]:
                yield f"{name}: may not use {other}; a pure crate's list stands in PURE"
        if name in PURE:
            reached = {names[pkg] for pkg in reachable(data["resolve"], identifier)}
            for driver in sorted(reached & DRIVERS - REACHES_ANYWAY.get(name, set())):
                yield f"{name}: reaches {driver}, which does I/O"
    for name in OURS.keys() - {package["name"] for package in members.values()}:
        # Not every crate of the plan is there yet; one that is in the tree must be a member.
        if (ROOT / "crates" / name.removeprefix("tidegate-") / "Cargo.toml").exists():
            yield f"{name}: is not a member of the workspace"


def check_manifest(package):
    manifest = tomllib.loads(pathlib.Path(package["manifest_path"]).read_text())
    if manifest.get("lints") != {"workspace": True}:
        yield f"{package['name']}: Cargo.toml lacks `[lints] workspace = true`"


def check_source(package):
    folder = pathlib.Path(package["manifest_path"]).parent
    for path in sorted(p for part in ("src", "tests") for p in (folder / part).rglob("*.rs")):
        place = path.relative_to(ROOT)
        lines = path.read_text().splitlines()
        if len(lines) > MAX_LINES:
            yield f"{place}: {len(lines)} lines, {MAX_LINES} at most; split it"
        if path.name == "mod.rs":
            yield f"{place}: write {path.parent.name}.rs beside the folder instead"
        in_tests = "tests" in path.relative_to(folder).parts or path.name == "tests.rs"
        if package["name"] not in PURE or in_tests:
            continue
        for number, line in enumerate(lines, 1):
            if line.startswith("#[cfg(test)]"):
                break  # tests stand last
            code = line.split("//", 1)[0]
            if found := AMBIENT.search(code):
                yield f"{place}:{number}: {found[0]} in a pure crate"


def main():
    data = metadata()
    faults = list(check_imports(data))
    for package in data["packages"]:
        if package["id"] in data["workspace_members"]:
            faults += check_manifest(package)
            faults += check_source(package)
    for fault in faults:
        print(f"layering: {fault}", file=sys.stderr)
    if faults:
        return 1
    print(f"layering: {len(data['workspace_members'])} crates keep the rules")
    return 0


if __name__ == "__main__":
    sys.exit(main())
