#!/bin/sh
# The kernel's data path (`vpn.dataplane: xfrm`) in a virtual machine, for machines whose own
# kernel lacks ESP or the xfrm interface: two sites with a gateway each, within the machine.
#
#   scripts/vm-xfrm.sh [GATEWAY]
#
# GATEWAY is the binary (default: target/debug/gateway, which is not built here). It needs Debian
# on x86-64 with qemu-system-x86, cpio, busybox-static, iproute2, nftables, iputils-ping and
# iperf3. Once it downloads Debian's kernel package (27 MB) with apt-get, to target/vm/. Without KVM
# it takes a minute or two. It prints what it sees, and ends with `PASSED` (0) or `FAILED` (1).
#
# KERNEL=linux-image-…  another kernel package.  ACCELERATOR=kvm  where that works.
# KEEP=1  leaves the machine's files in target/vm/.
set -eu
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}
gateway=${1:-$target/debug/gateway}
kernel=${KERNEL:-linux-image-6.1.0-56-cloud-amd64}
vm=$target/vm
[ -x "$gateway" ] || { echo "no $gateway: cargo build -p gateway" >&2; exit 2; }
for program in qemu-system-x86_64 cpio busybox dash ip nft ping iperf3 dpkg-deb strip; do
    command -v "$program" >/dev/null || { echo "no $program on this machine" >&2; exit 2; }
done

mkdir -p "$vm"
if [ ! -d "$vm/$kernel" ]; then
    (cd "$vm" && apt-get -qq download "$kernel")
    rm -rf "$vm/unpacked"
    dpkg-deb -x "$vm/$kernel"_*.deb "$vm/unpacked"
    version=$(ls "$vm/unpacked/lib/modules")
    busybox depmod -b "$vm/unpacked" "$version"
    mv "$vm/unpacked" "$vm/$kernel"
fi
version=$(ls "$vm/$kernel/lib/modules")

# The first file system: programs with their libraries, and the modules that may be asked for.
root=$vm/initramfs
rm -rf "$root"
mkdir -p "$root/bin" "$root/sbin" "$root/dev" "$root/proc" "$root/sys" "$root/run" "$root/tmp" \
    "$root/etc" "$root/var" "$root/lib/modules/$version"
ln -s /run "$root/var/run"
cp "$(command -v busybox)" "$root/bin/busybox"
strip -o "$root/bin/gateway" "$gateway"
for program in dash ip nft ping iperf3; do
    cp -L "$(command -v "$program")" "$root/bin/$program"
done
for program in gateway dash ip nft ping iperf3; do
    ldd "$root/bin/$program" | grep -o '/[^ )]*' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
done
modules=lib/modules/$version
for folder in net/xfrm net/key net/ipv4 net/ipv6 net/netfilter net/core net/sched crypto \
    arch/x86/crypto lib drivers/net/tun.ko drivers/net/veth.ko drivers/crypto; do
    [ -e "$vm/$kernel/$modules/kernel/$folder" ] || continue
    mkdir -p "$root/$modules/kernel/$(dirname "$folder")"
    cp -r "$vm/$kernel/$modules/kernel/$folder" "$root/$modules/kernel/$folder"
done
cp "$vm/$kernel/$modules"/modules.* "$root/$modules/"
ln -s /bin/busybox "$root/sbin/modprobe"
cp scripts/vm-xfrm/init.sh "$root/init"
chmod 755 "$root/init"
(cd "$root" && find . | cpio --quiet -o -H newc) >"$vm/initramfs.cpio"

# It panics, and so ends, if the script does.
timeout "${SECONDS_MOST:-400}" qemu-system-x86_64 -accel "${ACCELERATOR:-tcg}" -cpu max -smp 2 -m 1536 \
    -nodefaults -no-reboot -display none -serial stdio \
    -kernel "$vm/$kernel/boot/vmlinuz-$version" -initrd "$vm/initramfs.cpio" \
    -append "console=ttyS0 quiet panic=-1 mitigations=off rdinit=/init" </dev/null |
    sed -u 's/\r$//' | tee "$vm/log"
[ -n "${KEEP:-}" ] || rm -rf "$root" "$vm/initramfs.cpio"
grep -q '^PASSED$' "$vm/log"
