#!/bin/sh
# Lays out what is in the image, on a Debian machine with nftables, busybox-static, ca-certificates,
# netbase and libcap2-bin: the two programs, nft with its libraries, busybox, and what these read.
#
#   sh packaging/rootfs.sh FOLDER-WITH-gateway-AND-edge-agent OUT
set -eu

programs=$1 out=$2

umask 022
mkdir -p "$out/usr/bin" "$out/usr/sbin" "$out/etc/ssl/certs" "$out/etc/tidegate" "$out/var/lib/tidegate" \
    "$out/tmp" "$out/bin" "$out/proc" "$out/sys" "$out/dev"
chmod 1777 "$out/tmp"

install -m 0755 "$programs/gateway" "$programs/edge-agent" "$out/usr/bin/"

# nft is linked dynamically: it, its libraries and their loader, each where it was.
copy() {
    mkdir -p "$out$(dirname "$1")"
    cp -L "$1" "$out$1"
}
nft=$(command -v nft)
ldd "$nft" | grep -o '/[^ ]*' | sort -u | while read -r library; do copy "$library"; done
install -m 0755 "$nft" "$out/usr/sbin/nft"
# Names of protocols in rules come from here.
copy /etc/protocols
copy /etc/services
# For a kubeconfig without an authority of its own, and for registries of names.
copy /etc/ssl/certs/ca-certificates.crt

# For the chart's first container (it gives the state's folder away) and its tests. Links to its
# applets there are none: nobody finds a shell by chance.
install -m 0755 "$(command -v busybox)" "$out/bin/busybox"
if ldd "$out/bin/busybox" >/dev/null 2>&1; then
    echo "rootfs: busybox is not static; install busybox-static" >&2
    exit 1
fi

cat >"$out/etc/passwd" <<'PASSWD'
root:x:0:0:root:/:/nonexistent
tidegate:x:65532:65532:tidegate:/var/lib/tidegate:/nonexistent
nobody:x:65534:65534:nobody:/:/nonexistent
PASSWD
cat >"$out/etc/group" <<'GROUP'
root:x:0:
tidegate:x:65532:
nogroup:x:65534:
GROUP
echo 'hosts: files dns' >"$out/etc/nsswitch.conf"
chown 65532:65532 "$out/var/lib/tidegate"
chmod 0700 "$out/var/lib/tidegate"

# What they may as another user than root. A container with fewer capabilities than a file asks for
# can't start it: the chart's lists are these.
setcap cap_net_admin,cap_net_raw,cap_net_bind_service+ep "$out/usr/bin/gateway"
setcap cap_net_admin+ep "$out/usr/bin/edge-agent"
setcap cap_net_admin+ep "$out/usr/sbin/nft"
