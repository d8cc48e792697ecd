#!/usr/bin/env python3
"""Checks licences and sources of all dependencies against deny.toml, without cargo-deny.

`cargo deny check licenses bans sources` reads the same file and checks more; building it takes
longer than all other checks together, so it is for maintainers and this is for every run.
"""

import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOKEN = re.compile(r"\(|\)|[^\s()]+")


def satisfied(expression, allowed):
    """Whether an SPDX expression can be met by the allowed licences alone; AND binds closer."""
    # "MIT/Apache-2.0" is how OR was written before SPDX.
    tokens = TOKEN.findall(expression.replace("/", " OR "))

    def peek():
        return tokens[0] if tokens else None

    def either():
        met = both()
        while peek() == "OR":
            tokens.pop(0)
            met = both() or met
        return met

    def both():
        met = one()
        while peek() == "AND":
            tokens.pop(0)
            met = one() and met
        return met

    def one():
        if peek() == "(":
            tokens.pop(0)
            met = either()
            if not tokens or tokens.pop(0) != ")":
                raise ValueError(expression)
            return met
        if peek() in (None, ")", "AND", "OR", "WITH"):
            raise ValueError(expression)
        name = tokens.pop(0)
        if peek() == "WITH":
            tokens.pop(0)
            name = f"{name} WITH {tokens.pop(0) if tokens else ''}"
        return name in allowed

    met = either()
    if tokens:
        raise ValueError(expression)
    return met


def used():
    """Name, version and licence of every package that anything is built with, on any platform.

    Not from Cargo.lock or `cargo metadata`: both also list what only features that nobody turned
    on would bring.
    """
    command = ["cargo", "tree", "--workspace", "--target", "all", "--locked"]
    command += ["--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}|{l}"]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    packages = set()
    for line in filter(None, lines.splitlines()):
        package, licence = line.replace(" (*)", "").split("|")
        name, version = package.split()[:2]
        packages.add((name, version, licence))
    return sorted(packages)


def importers(name):
    """Our own way to `cargo deny`'s wrappers: the names of those that import a crate."""
    command = ["cargo", "tree", "--workspace", "--target", "all", "--locked", "--invert", name]
    command += ["--edges", "normal,build,dev", "--prefix", "depth", "--depth", "1"]
    command += ["--format", "|{p}"]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = (line.split("|", 1) for line in lines.splitlines() if "|" in line)
    return {package.split()[0] for depth, package in rows if depth == "1"}


def self_check():
    """A check that passes everything would be worse than none."""
    for expression, met in {
        "MIT": True,
        "GPL-3.0": False,
        "MIT OR GPL-3.0": True,
        "MIT AND GPL-3.0": False,
        "GPL-3.0 AND GPL-3.0 OR MIT": True,
        "(MIT OR GPL-3.0) AND Zlib": False,
        "MIT/GPL-3.0": True,
        "Apache-2.0 WITH X": False,
    }.items():
        assert satisfied(expression, {"MIT", "Apache-2.0"}) is met, expression


def main():
    self_check()
    deny = tomllib.loads((ROOT / "deny.toml").read_text())
    allowed = set(deny["licenses"]["allow"])
    banned = {entry["crate"]: set(entry.get("wrappers", ())) for entry in deny["bans"]["deny"]}
    registries = {f"registry+{url}" for url in deny["sources"]["allow-registry"]}
    packages = used()
    faults = []
    for name, version, licence in packages:
        try:
            if not satisfied(licence, allowed):
                faults.append(f"{name} {version}: licence {licence!r} is not in deny.toml's list")
        except ValueError:
            faults.append(f"{name} {version}: licence {licence!r} can't be read")
        if name in banned and not (banned[name] and importers(name) <= banned[name]):
            faults.append(f"{name} {version}: banned by deny.toml")
    for package in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]:
        if "source" in package and package["source"] not in registries:
            faults.append(f"{package['name']} {package['version']}: from {package['source']}")
    for fault in faults:
        print(f"licences: {fault}", file=sys.stderr)
    if faults:
        return 1
    print(f"licences: {len(packages)} packages are as deny.toml wants them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
