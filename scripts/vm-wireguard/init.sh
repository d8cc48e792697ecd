#!/bin/dash
# What runs in the machine of scripts/vm-wireguard.sh: two namespaces, and what is looked at.
export PATH=/bin:/sbin
/bin/busybox --install -s /bin 2>/dev/null
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
ln -s /proc/self/fd /dev/fd
for module in tun veth; do
    modprobe $module
done
ip link set lo up

say() { echo "== $* ($(cut -d' ' -f1 /proc/uptime) s)"; }
end() {
    echo "$1"
    sync
    poweroff -f
}
fail() {
    echo "!! $*"
    ip netns exec k wg show
    ip -n k address
    tail -5 /tmp/k.err /tmp/u.err
    end FAILED
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
pings() { ip netns exec k ping -c 3 -i 0.2 -W 2 10.9.0.2 >/dev/null; }

# k: in the kernel. u: in user space.
ip netns add k
ip netns add u
ip -n k link add e0 type veth peer name e0 netns u
for n in 1:k 2:u; do
    ip -n "${n#*:}" link set lo up
    ip -n "${n#*:}" link set e0 up
    ip -n "${n#*:}" addr add "192.0.2.${n%:*}/24" dev e0
done
umask 077
wg genkey >/tmp/k.key
wg genkey >/tmp/u.key
k=$(wg pubkey </tmp/k.key)
u=$(wg pubkey </tmp/u.key)
mkfifo /tmp/k.in /tmp/u.in
exec 7<>/tmp/k.in 8<>/tmp/u.in

kernel() {
    ip netns exec k tidegate-wg --backend kernel --interface tg-example0 --key /tmp/k.key \
        --port 51820 --address 10.9.0.1 --peer "$u,192.0.2.2:51820,10.9.0.2/32" \
        </tmp/k.in >/tmp/k.out 2>>/tmp/k.err &
    kernel=$!
    eventually 20 grep -q ready /tmp/k.out || fail "no interface in the kernel"
}

say "the kernel makes an interface; its module comes by itself"
kernel
ip -n k -d link show tg-example0
ip netns exec u tidegate-wg --backend userspace --interface tg-example0 --key /tmp/u.key --port 51820 \
    --address 10.9.0.2 --peer "$k,-,10.9.0.1/32" </tmp/u.in >/tmp/u.out 2>>/tmp/u.err &
eventually 20 grep -q ready /tmp/u.out || fail "no interface in user space"
ip -n k route add 10.9.0.2 dev tg-example0
ip -n u route add 10.9.0.1 dev tg-example0
eventually 20 pings || fail "no pings"
ip netns exec k wg show
say "a stream from user space to the kernel and back"
ip netns exec k iperf3 -s -1 -D -B 10.9.0.1
sleep 1
ip netns exec u iperf3 -c 10.9.0.1 -t 2 | grep receiver || fail "no stream"
ip netns exec k iperf3 -s -1 -D -B 10.9.0.1
sleep 1
ip netns exec u iperf3 -c 10.9.0.1 -t 2 -R | grep receiver || fail "no stream back"

say "the process goes, and the interface stays"
kill -9 $kernel
rm /tmp/k.out
pings || fail "no pings without the process"
handshake=$(ip netns exec k wg show tg-example0 latest-handshakes)
kernel
pings || fail "no pings with the next process"
[ "$handshake" = "$(ip netns exec k wg show tg-example0 latest-handshakes)" ] ||
    fail "there was another handshake"

say "1,000 peers with 30 networks each, and our own among them"
{
    n=0
    while [ $n -lt 1000 ]; do
        # Keys need not be anybody's.
        line="$(printf 'A%041dA=' $n),192.0.2.9:$((n + 1))"
        i=0
        while [ $i -lt 30 ]; do
            line="$line,$((20 + n / 256)).$((n % 256)).$i.0/24"
            i=$((i + 1))
        done
        echo "$line"
        n=$((n + 1))
    done
    echo "$u,192.0.2.2:51820,10.9.0.2/32,10.9.1.0/24,keepalive=5"
    echo .
} >/tmp/peers
cat /tmp/peers >&7
peers() { [ "$(ip netns exec k wg show tg-example0 peers | wc -l)" = "$1" ]; }
networks() { [ "$(ip netns exec k wg show tg-example0 allowed-ips | tr ' \t' '\n\n' | grep -c '/[0-9]*$')" = "$1" ]; }
eventually 60 peers 1001 || fail "not all peers: $(ip netns exec k wg show tg-example0 peers | wc -l)"
eventually 60 networks 30002 || fail "not all networks"
pings || fail "no pings with all peers"

say "a network goes from one peer to another without a gap"
ip netns exec k ping -i 0.01 -c 500 10.9.1.1 -q >/dev/null 2>&1 &
first=$(printf 'A%041dA=' 0)
ip netns exec k ip route add 10.9.1.0/24 dev tg-example0
(
    # Who has it now: never nobody.
    while [ ! -e /tmp/stop ]; do
        ip netns exec k wg show tg-example0 allowed-ips | grep -q 10.9.1.0/24 || echo gap >>/tmp/gaps
    done
) &
for _ in 1 2 3; do
    printf '%s\n' "$u,192.0.2.2:51820,10.9.0.2/32" "$first,192.0.2.9:1,10.9.1.0/24" . >&7
    sleep 1
    ip netns exec k wg show tg-example0 allowed-ips
    printf '%s\n' "$u,192.0.2.2:51820,10.9.0.2/32,10.9.1.0/24" "$first,192.0.2.9:1" . >&7
    sleep 1
done
touch /tmp/stop
[ ! -e /tmp/gaps ] || fail "it was nobody's $(wc -l </tmp/gaps) times"
peers 2 || fail "the others did not go"

say "the peer moves, and is followed; what others change is restored"
ip -n u addr del 192.0.2.2/24 dev e0
ip -n u addr add 192.0.2.7/24 dev e0
eventually 20 ip netns exec u ping -c 1 -W 1 10.9.0.1 || fail "no pings from elsewhere"
ip netns exec k wg show tg-example0 endpoints | grep 192.0.2.7 || fail "it was not followed"
ip netns exec k wg set tg-example0 listen-port 4 fwmark 9 peer "$u" persistent-keepalive 77
ip -n k addr add 10.9.9.9/32 dev tg-example0
printf '%s\n' "$u,192.0.2.2:51820,10.9.0.2/32" . >&7
restored() {
    [ "$(ip netns exec k wg show tg-example0 listen-port)" = 51820 ] &&
        [ "$(ip netns exec k wg show tg-example0 fwmark)" = off ] &&
        ip netns exec k wg show tg-example0 persistent-keepalive | grep -q off &&
        ! ip -n k addr | grep -q 10.9.9.9
}
eventually 10 restored || fail "not restored"
ip netns exec k wg show tg-example0 endpoints | grep 192.0.2.7 || fail "it was brought back"
pings || fail "no pings at the end"
[ ! -s /tmp/k.err ] || fail "there was something to say: $(cat /tmp/k.err)"
end PASSED
