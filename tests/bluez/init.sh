#!/bin/busybox sh
# The guest's first program: load the modules, take the host's files as its own (read-only below, memory above, what was
# fetched for the guest between), and go on with guest.sh among them.
b=/bin/busybox
$b mkdir -p /proc /sys /host /fetched /memory /root
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for module in /modules/*.ko; do
    $b insmod "$module" || echo "stage: $module was not loaded"
done
share() { $b mount -t 9p -o "trans=virtio,version=9p2000.L,msize=262144,$3" "$1" "$2" || echo "stage: no $1"; }
share host /host ro,cache=loose
share fetched /fetched ro,cache=loose
$b mount -t tmpfs memory /memory
$b mkdir /memory/upper /memory/work
$b mount -t overlay -o lowerdir=/fetched:/host,upperdir=/memory/upper,workdir=/memory/work root /root ||
    echo "stage: no root"
for place in dev proc sys; do
    $b mkdir -p /root/$place
    $b mount --move /$place /root/$place
done
$b mount -t tmpfs run /root/run
$b mkdir -p /root/run/stage /root/dev/shm /root/dev/pts
$b mount -t tmpfs shm /root/dev/shm
$b mount -t devpts pts /root/dev/pts
share stage /root/run/stage rw,cache=none
. /root/run/stage/settings
exec $b switch_root /root /bin/sh "$REPOSITORY/tests/bluez/guest.sh"
