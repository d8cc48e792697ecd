#!/usr/bin/env bash
# Every check of the repository, in the order of what fails fastest; the tests come last.
#
#   bash scripts/test.sh
#
# Needs Rust and what scripts/deps.sh installs, which it calls where something is missing and it
# may. FUZZ_SECONDS is for each fuzz target (default 20).
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

if ! { command -v c++ && command -v python3 && command -v ip && command -v promtool && python3 -m pip --version &&
    command -v nft && command -v tcpdump && command -v conntrack && command -v nginx && command -v haproxy; } >/dev/null; then
    step "tools"
    bash scripts/deps.sh
fi

step "format"
cargo fmt --all --check
for manifest in crates/*/fuzz/Cargo.toml; do
    cargo fmt --manifest-path "$manifest" --check
done

step "shell scripts"
for script in scripts/*.sh .ci/run; do
    bash -n "$script"
done

step "layering, licences and links"
python3 scripts/layering.py
python3 scripts/licences.py
python3 scripts/links.py

step "clippy"
cargo clippy --workspace --all-targets --locked -- -D warnings

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

step "configuration schema"
gateway() { cargo run --quiet --locked --package gateway -- "$@"; }
if ! gateway schema | diff configs/schema.json -; then
    echo "configs/schema.json has drifted; write it anew:" >&2
    echo "  cargo run -p gateway -- schema > configs/schema.json" >&2
    exit 1
fi

step "custom resource definitions"
for plural in addresspools edgegateways vpnconnections; do
    if ! gateway crds "$plural" | diff "helm/tidegate/crds/$plural.yaml" -; then
        echo "helm/tidegate/crds/$plural.yaml has drifted; write it anew:" >&2
        echo "  cargo run -p gateway -- crds $plural > helm/tidegate/crds/$plural.yaml" >&2
        exit 1
    fi
done

step "sample configurations"
for config in configs/gateway.yaml configs/samples.yaml configs/vpn.yaml \
    configs/quickstart/gateway.yaml; do
    echo "-- $config"
    gateway check --strict --config "$config"
done
# Its interfaces are examples: that this machine hasn't all of them is a warning.
echo "-- configs/edge.yaml"
gateway check --config configs/edge.yaml

step "chart"
cargo build --quiet --locked --package gateway --package edge-agent
bash scripts/chart.sh "${CARGO_TARGET_DIR:-target}/debug"

step "fuzzing"
sh scripts/fuzz.sh "${FUZZ_SECONDS:-20}"

step "benchmarks run (unoptimised: the figures mean nothing)"
cargo build --quiet --locked --package gateway --package loadtest
built=${CARGO_TARGET_DIR:-target}/debug
figures=$(mktemp -d)
"$built/loadtest" compare l7 tls --quick --only h1-64,h1-70,tls-64,tls-full,tls-full-rsa \
    --gateway "$built/gateway" --json "$figures/compare.json" --html "$figures/compare.html"
"$built/loadtest" compare l4 --quick --gateway "$built/gateway" --json "$figures/l4.json"
"$built/loadtest" diff "$figures/l4.json" "$figures/l4.json"
"$built/loadtest" compare vpn --quick --gateway "$built/gateway" --json "$figures/vpn.json" \
    --html "$figures/vpn.html"
"$built/loadtest" diff "$figures/vpn.json" "$figures/vpn.json"
"$built/loadtest" compare overlay --quick --gateway "$built/gateway" --json "$figures/overlay.json"
"$built/loadtest" diff "$figures/overlay.json" "$figures/overlay.json"
"$built/loadtest" compare cluster --quick --gateway "$built/gateway" --json "$figures/cluster.json" \
    --html "$figures/cluster.html"
"$built/loadtest" diff "$figures/cluster.json" "$figures/cluster.json"
"$built/loadtest" report "$figures/compare.json" --html "$figures/again.html"
cmp "$figures/compare.html" "$figures/again.html"
"$built/loadtest" diff "$figures/compare.json" "$figures/compare.json"
"$built/loadtest" backend --listen 127.0.0.1:0 --announce "$figures/address" &
backend=$!
trap 'kill "$backend" 2>/dev/null || true; rm -r "$figures"' EXIT
for _ in $(seq 100); do
    [ -e "$figures/address" ] && break
    sleep 0.1
done
"$built/loadtest" run loadtest/scenarios/http1-open-rate.yaml --seconds 2 --rate 200 \
    --connect "$(cat "$figures/address")" --json "$figures/run.json"
"$built/loadtest" report "$figures/run.json" --html "$figures/run.html"
"$built/loadtest" diff "$figures/run.json" "$figures/run.json"
kill "$backend"

step "documentation's examples"
cargo test --workspace --doc --locked

step "programs that tests start"
cargo build --quiet --locked --package edge-agent --package tidegate-apiserver

step "tests"
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --locked
else
    cargo test --workspace --all-targets --locked
fi
