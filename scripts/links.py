#!/usr/bin/env python3
"""Checks that every relative link in the Markdown files leads to a file, and to a heading in it."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+\s+(.*)$", re.MULTILINE)


def anchors(text):
    """The headings' names, as repository browsers make them."""
    headings = HEADING.findall(FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


def faults_of(path):
    for target in LINK.findall(FENCE.sub("", path.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        other = (path.parent / file).resolve() if file else path
        if not other.exists():
            yield f"{path.relative_to(ROOT)}: {target} leads nowhere"
        elif anchor and other.suffix == ".md" and anchor not in anchors(other.read_text()):
            yield f"{path.relative_to(ROOT)}: {target} names no heading"


def main():
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    files = [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).exists()]
    faults = [fault for path in files for fault in faults_of(path)]
    for fault in faults:
        print(f"links: {fault}", file=sys.stderr)
    if faults or not files:
        return 1
    print(f"links: {len(files)} pages have no dead link")
    return 0


if __name__ == "__main__":
    sys.exit(main())
