#!/bin/sh
# Fetch what `make test-bluez` boots: a kernel with a virtual Bluetooth controller, BlueZ and D-Bus. Only QEMU is
# installed on this machine (that takes root); the rest is downloaded by apt-get and unpacked into build/bluez-guest,
# where the guest finds it over this machine's own files. No service is installed, started or enabled.
set -u

folder=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd) || exit 1
guest=$folder/build/bluez-guest

skip() {
    echo "make test-bluez cannot run here: $1."
    exit 1
}

case $(uname -m) in
x86_64) qemu=qemu-system-x86_64 qemu_package=qemu-system-x86 kernels="linux-image-amd64 linux-image-generic" ;;
aarch64) qemu=qemu-system-aarch64 qemu_package=qemu-system-arm kernels="linux-image-arm64 linux-image-generic" ;;
*) skip "no guest is known for a $(uname -m) machine" ;;
esac
command -v apt-get >/dev/null 2>&1 || skip "there is no apt-get here, and a guest of other packages is not known"

if [ "$(id -u)" -eq 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    as_root=no
fi

if ! command -v $qemu >/dev/null 2>&1; then
    [ "$as_root" != no ] || skip "that takes root: sudo apt-get install --no-install-recommends $qemu_package"
    $as_root apt-get update --quiet --quiet >/dev/null 2>&1
    $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install --quiet --quiet --yes --no-install-recommends $qemu_package >/dev/null 2>&1 ||
        skip "apt-get could not install $qemu_package"
fi

kernel=""
for one in $kernels; do
    if [ -n "$(apt-cache show "$one" 2>/dev/null)" ]; then
        kernel=$one
        break
    fi
done
[ -n "$kernel" ] || skip "apt has none of $kernels"

# All that these packages need and this machine lacks, and no more. Nothing is locked or installed, so no root.
mkdir -p "$guest/packages/partial" || exit 1
fetch() {
    apt-get install --download-only --quiet --quiet --yes --no-install-recommends \
        -o Debug::NoLocking=1 -o Dir::Cache::archives="$guest/packages" -o APT::Sandbox::User=root "$@"
}
# What is installed here already is taken from this machine; a kernel never is: its files may be for root alone.
fetch busybox-static bluez dbus >/dev/null 2>&1 || skip "apt-get could not download busybox-static, bluez and dbus"
fetch --reinstall "$kernel" >/dev/null 2>&1 || skip "apt-get could not download $kernel"
image=$(apt-cache depends --important "$kernel" | sed -n 's/^ *Depends: \(linux-\(image\|modules\)[^ ]*\)$/\1/p')
# shellcheck disable=SC2086
[ -z "$image" ] || fetch --reinstall $image >/dev/null 2>&1 || skip "apt-get could not download $image"

# Unpacked beside its place and moved there when whole. /lib and its like are links into /usr, as they are here.
rm -rf "$guest/root.new" || exit 1
mkdir -p "$guest/root.new" || exit 1
for one in bin sbin lib lib64; do
    if [ -L "/$one" ]; then
        mkdir -p "$guest/root.new/usr/$one" && ln -s "usr/$one" "$guest/root.new/$one" || exit 1
    fi
done
for package in "$guest"/packages/*.deb; do
    dpkg-deb --fsys-tarfile "$package" |
        tar -x -C "$guest/root.new" --no-same-owner --keep-directory-symlink || skip "$package cannot be unpacked"
done
rm -rf "$guest/root" && mv "$guest/root.new" "$guest/root" && rm -rf "$guest/packages" || exit 1
echo "build/bluez-guest is complete: $($qemu --version | sed -n 1p), $kernel, BlueZ."
