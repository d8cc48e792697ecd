#!/bin/sh
# WireGuard in the kernel, driven by the `wireguard` crate, in a virtual machine, for machines whose
# own kernel lacks it: an interface in the kernel and one in user space that talk to each other.
#
#   scripts/vm-wireguard.sh [WG]
#
# WG is the crate's example (default: target/debug/examples/wg, which is not built here:
# cargo build -p tidegate-wireguard --example wg). It needs Debian on x86-64 with qemu-system-x86,
# cpio, busybox-static, iproute2, wireguard-tools, iputils-ping and iperf3. Once it downloads
# Debian's kernel package (27 MB) with apt-get, to target/vm/. Without KVM it takes a minute or two.
# It prints what it sees, and ends with `PASSED` (0) or `FAILED` (1).
#
# KERNEL=linux-image-…  another kernel package.  ACCELERATOR=kvm  where that works.
# KEEP=1  leaves the machine's files in target/vm/.
set -eu
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}
example=${1:-$target/debug/examples/wg}
kernel=${KERNEL:-linux-image-6.1.0-56-cloud-amd64}
vm=$target/vm
[ -x "$example" ] || { echo "no $example: cargo build -p tidegate-wireguard --example wg" >&2; exit 2; }
for program in qemu-system-x86_64 cpio busybox dash ip wg ping iperf3 dpkg-deb strip; do
    command -v "$program" >/dev/null || { echo "no $program on this machine" >&2; exit 2; }
done

mkdir -p "$vm"
if [ ! -d "$vm/$kernel" ]; then
    ls "$vm/$kernel"_*.deb >/dev/null 2>&1 || (cd "$vm" && apt-get -qq download "$kernel")
    rm -rf "$vm/unpacked"
    dpkg-deb -x "$vm/$kernel"_*.deb "$vm/unpacked"
    version=$(ls "$vm/unpacked/lib/modules")
    busybox depmod -b "$vm/unpacked" "$version"
    mv "$vm/unpacked" "$vm/$kernel"
fi
version=$(ls "$vm/$kernel/lib/modules")

# The first file system: programs with their libraries, and the modules that may be asked for.
root=$vm/initramfs-wireguard
rm -rf "$root"
mkdir -p "$root/bin" "$root/sbin" "$root/dev" "$root/proc" "$root/sys" "$root/run" "$root/tmp" \
    "$root/etc" "$root/var" "$root/lib/modules/$version"
ln -s /run "$root/var/run"
cp "$(command -v busybox)" "$root/bin/busybox"
strip -o "$root/bin/tidegate-wg" "$example"
for program in dash ip wg ping iperf3; do
    cp -L "$(command -v "$program")" "$root/bin/$program"
done
for program in tidegate-wg dash ip wg ping iperf3; do
    ldd "$root/bin/$program" | grep -o '/[^ )]*' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
done
modules=lib/modules/$version
for folder in net/ipv4 net/ipv6 net/netfilter net/core crypto arch/x86/crypto lib \
    drivers/net/tun.ko drivers/net/veth.ko drivers/net/wireguard drivers/crypto; do
    [ -e "$vm/$kernel/$modules/kernel/$folder" ] || continue
    mkdir -p "$root/$modules/kernel/$(dirname "$folder")"
    cp -r "$vm/$kernel/$modules/kernel/$folder" "$root/$modules/kernel/$folder"
done
cp "$vm/$kernel/$modules"/modules.* "$root/$modules/"
ln -s /bin/busybox "$root/sbin/modprobe"
cp scripts/vm-wireguard/init.sh "$root/init"
chmod 755 "$root/init"
(cd "$root" && find . | cpio --quiet -o -H newc) >"$vm/initramfs-wireguard.cpio"

# It panics, and so ends, if the script does.
timeout "${SECONDS_MOST:-400}" qemu-system-x86_64 -accel "${ACCELERATOR:-tcg}" -cpu max -smp 2 -m 1024 \
    -nodefaults -no-reboot -display none -serial stdio \
    -kernel "$vm/$kernel/boot/vmlinuz-$version" -initrd "$vm/initramfs-wireguard.cpio" \
    -append "console=ttyS0 quiet panic=-1 mitigations=off rdinit=/init" </dev/null |
    sed -u 's/\r$//' | tee "$vm/log-wireguard"
[ -n "${KEEP:-}" ] || rm -rf "$root" "$vm/initramfs-wireguard.cpio"
grep -q '^PASSED$' "$vm/log-wireguard"
