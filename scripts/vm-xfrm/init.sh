#!/bin/dash
# What runs in the machine of scripts/vm-xfrm.sh: the lab, two gateways, and what is looked at.
export PATH=/bin:/sbin
/bin/busybox --install -s /bin 2>/dev/null
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
ln -s /proc/self/fd /dev/fd
# What is loaded now isn't waited for by two at once.
for module in tun veth nf_tables xfrm_user xfrm_interface esp4 esp6 gcm seqiv ghash-generic; do
    modprobe $module
done
ip link set lo up

say() { echo "== $* ($(cut -d' ' -f1 /proc/uptime) s)"; }
fail() {
    echo "!! $*"
    show
    end FAILED
}
end() {
    echo "$1"
    sync
    poweroff -f
}

# Waits until a command succeeds, for at most so many seconds.
eventually() {
    most=$(($(cut -d. -f1 /proc/uptime) + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$(cut -d. -f1 /proc/uptime)" -lt "$most" ] || return 1
        usleep 300000
    done
}

# host A - gateway A - gateway B - host B; the gateways have routes to the other network past the
# tunnel, so that a packet that isn't kept back would arrive in the clear.
lab() {
    for name in ha ga gb hb; do
        ip netns add $name
        ip -n $name link set lo up
    done
    ip -n ga link add wan0 type veth peer name wan0 netns gb
    for n in 1 2; do
        [ $n = 1 ] && { g=ga; h=ha; o=2; } || { g=gb; h=hb; o=1; }
        ip -n $g link add lan0 type veth peer name h0 netns $h
        ip -n $g addr add 192.0.2.$n/24 dev wan0
        ip -n $g addr add 2001:db8::$n/64 dev wan0 nodad
        ip -n $g addr add 10.$n.0.1/24 dev lan0
        ip -n $g addr add fd0$n::1/64 dev lan0 nodad
        ip -n $g link set wan0 up
        ip -n $g link set lan0 up
        ip -n $h addr add 10.$n.0.2/24 dev h0
        ip -n $h addr add fd0$n::2/64 dev h0 nodad
        ip -n $h link set h0 up
        ip -n $h route add default via 10.$n.0.1
        ip -n $h route add default via fd0$n::1
        ip -n $g route add 10.$o.0.0/24 via 192.0.2.$o
        ip -n $g route add fd0$o::/64 via 2001:db8::$o
    done
    # What of either network passes between the gateways as it is.
    ip netns exec gb nft -f - <<'NFT'
table inet watch {
    counter wire_clear { }
    counter wire_esp { }
    chain wire {
        type filter hook prerouting priority -400; policy accept;
        iifname "wan0" ip saddr 10.1.0.0/24 counter name wire_clear
        iifname "wan0" ip6 saddr fd01::/64 counter name wire_clear
        iifname "wan0" meta l4proto esp counter name wire_esp
        iifname "wan0" udp dport 4500 counter name wire_esp
    }
}
NFT
}

# The manifests of site $1 with further keys of `spec` ($2) and its subnets ($3, $4).
manifests() {
    n=$1
    [ "$n" = 1 ] && { o=2; auto=${first:-start}; id=a.test; peer=b.test; } ||
        { o=1; auto=add; id=b.test; peer=a.test; }
    mkdir -p /tmp/$n/manifests
    cat >/tmp/$n/manifests/site.yaml <<YAML
apiVersion: tidegate.io/v1alpha1
kind: VpnConnection
metadata: {name: site, namespace: default}
spec:
  auto: $auto
  auth: {psk: {secretName: site-psk, key: psk}}
  local: {address: 192.0.2.$n, id: $id, subnets: [10.$n.0.0/24, "fd0$n::/64"]}
  remote: {gateway: 192.0.2.$o, id: $peer, subnets: [10.$o.0.0/24, "fd0$o::/64"]}
$2
---
apiVersion: v1
kind: Secret
metadata: {name: site-psk, namespace: default}
stringData: {psk: "a key for tests, long enough"}
YAML
    cat >/tmp/$n/gateway.yaml <<YAML
apiVersion: tidegate.io/v1alpha1
kind: GatewayConfig
source: {manifests: manifests/}
alb: {public: {enabled: false}}
vpn: {enabled: true, dataplane: $3}
admin: {listen: "127.0.0.1:9901"}
state: state
YAML
}

on() { ip netns exec "$@"; }
# A function would put a shell between the job and its signals.
start() {
    n=$1
    [ "$n" = 1 ] && g=ga || g=gb
    ip netns exec $g gateway run --config /tmp/$n/gateway.yaml 2>>/tmp/$n/log &
    eval "gateway$n=$!"
}
stop() {
    kill "$gateway1" "$gateway2" 2>/dev/null
    wait "$gateway1" "$gateway2" 2>/dev/null
}
status() { on "$1" gateway vpn status --output json; }
up() { status ga | tr -d ' \n' | grep -q '"state":"up"' && status gb | tr -d ' \n' | grep -q '"state":"up"'; }
number() { tr -d ' ",\n' | sed "s/.*$1:\([0-9]*\).*/\1/"; }
pings() { on ha ping -n -c1 -W1 "${1:-10.2.0.2}"; }
counted() { on "$1" nft list counter inet $2 | sed -n 's/.*packets \([0-9]*\).*/\1/p'; }

# Pings under which $1 is done so many times ($2): none may be lost.
under_pings() {
    ip netns exec ha ping -n -q -i 0.05 -W 2 -w 100 10.2.0.2 >/tmp/ping &
    pinger=$!
    usleep 500000
    i=0
    while [ $i -lt "$2" ]; do
        i=$((i + 1))
        [ $((i % 2)) = 1 ] && from=ga || from=gb
        on $from gateway vpn rekey site $1 >/tmp/rekey 2>&1 || fail "rekey: $(cat /tmp/rekey)"
        usleep 1500000
    done
    kill -INT $pinger
    wait $pinger
    counts=$(sed -n 's/^\([0-9]*\) packets transmitted, \([0-9]*\) received.*/\1 \2/p' /tmp/ping)
    echo "sent, answered: $counts"
    # The last one may be under way.
    set -- $counts
    [ "${1:-0}" -gt 10 ] && [ $((${2:-0} + 1)) -ge "$1" ] || fail "pings were lost: $counts"
}

show() {
    for n in 1 2; do
        echo "-- log of gateway $n"
        tail -n 25 /tmp/$n/log
    done
    on ga ip -s xfrm state | grep -v -i 'aead\|enc \|auth'
    on ga ip xfrm policy
    on ga cat /proc/net/xfrm_stat | grep -v '[^0-9]0$'
    status ga
}

say "a machine with $(uname -r)"
lab

manifests 1 "" xfrm
manifests 2 "" xfrm
start 1
start 2
say "gateways are started"
eventually 60 up || fail "the connection is not up"
say "the connection is up"
status ga | tr -d ' \n' | grep -q '"dataplane":"xfrm"' || fail "status doesn't name xfrm"
on ga ip -d link show tidegate-vpn | grep -q 'xfrm.*if_id 0x5447' || fail "no xfrm interface"
eventually 10 pings || fail "no ping"
eventually 10 pings fd02::2 || fail "no ping of IPv6"
say "pings pass"
[ "$(counted gb "watch wire_esp")" -gt 0 ] || fail "no ESP on the wire"
on ha ping -n -c2 -W2 -s 1600 10.2.0.2 | tail -2 | head -1
ip netns exec hb iperf3 -s -1 >/dev/null 2>&1 &
usleep 500000
on ha iperf3 -c 10.2.0.2 -t 3 2>&1 | grep -E 'sender|receiver|error' || fail "no TCP"
say "rekeying child SAs under pings"
under_pings "--what site" 4
say "rekeying the IKE SA under pings"
under_pings "--what ike" 2
say "what the kernel has"
echo "SAs of A: $(on ga ip xfrm state | grep -c '^src'), policies: $(on ga ip xfrm policy | grep -c '^src')"
status ga | tr -d '\n' | grep -o '"sent_packets[^,]*,\|"received_packets[^,]*,' | tr '\n' ' '
echo

say "the other end is gone: nothing leaves in the clear"
kill "$gateway2"
wait "$gateway2"
on gb ip link show tidegate-vpn >/dev/null 2>&1 && fail "the interface of B stays"
[ "$(on gb ip xfrm state | grep -c '^src')" = 0 ] || fail "SAs of B stay"
on ha ping -n -c3 -i 0.2 -W1 10.2.0.2 >/dev/null && fail "a ping passes without a tunnel"
start 2
eventually 60 up || fail "it is not up again"
eventually 20 pings || fail "no ping after the restart"
say "it is up again"

say "a killed gateway leaves nothing that is in the way"
kill -9 "$gateway1"
wait "$gateway1" 2>/dev/null
start 1
eventually 60 up || fail "it is not up after a kill"
eventually 20 pings || fail "no ping after a kill"
say "it is up after a kill"
stop

say "ESP in UDP, ChaCha20-Poly1305"
manifests 1 "  encapsulation: udp
  esp: [chacha20poly1305]" xfrm
manifests 2 "  encapsulation: udp
  esp: [chacha20poly1305]" xfrm
start 1
start 2
eventually 60 up && eventually 20 pings || fail "no ping"
on ga ip xfrm state | grep -q 'encap type espinudp' || fail "no ESP in UDP"
on ga ip xfrm state | grep -q 'rfc7539esp' || fail "no ChaCha20-Poly1305"
under_pings "--what site" 2
stop

say "AES-CBC with HMAC-SHA-256"
manifests 1 "  esp: [aes256-sha256]" xfrm
manifests 2 "  esp: [aes256-sha256]" xfrm
start 1
start 2
eventually 60 up && eventually 20 pings || fail "no ping"
stop

say "by itself: the kernel on one end, user space where networks are translated on the other"
manifests 1 "" auto
manifests 2 "  localSubnetNAT: [10.2.0.0/24=10.2.0.0/24]" auto
start 1
start 2
eventually 60 up && eventually 20 pings || fail "no ping"
for g in ga gb; do
    echo "$g: $(status $g | tr -d ' \n' | grep -o '"dataplane":"[a-z]*"')"
done
grep -h 'data path' /tmp/1/log /tmp/2/log | tail -4
status ga | grep -q xfrm || fail "A is not in the kernel"
status gb | grep -q userspace || fail "B is not in user space"
stop

say "begun by the first packet"
first=route
manifests 1 "" xfrm
manifests 2 "" xfrm
start 1
start 2
eventually 60 on ga ip xfrm policy get src 10.1.0.0/24 dst 10.2.0.0/24 dir out if_id 0x5447 ||
    fail "no policy asks for an SA"
eventually 60 on gb ip link show tidegate-vpn || fail "B has no interface"
eventually 60 pings || fail "a packet has begun nothing"
up || fail "it is not up"
stop

clear=$(counted gb "watch wire_clear")
guarded=$(counted ga "tidegate-vpn guard_out")
echo "in the clear: $clear; kept back by the guard: ${guarded:-?}"
[ "$clear" = 0 ] || fail "$clear packets were in the clear"
end PASSED
