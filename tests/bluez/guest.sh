#!/bin/sh
# In the guest: a bus, then the tests, then the end. BlueZ and the wearables are started and ended by the tests.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root
stage=/run/stage
. $stage/settings
ip link set lo up 2>/dev/null || busybox ip link set lo up
hostname ward 2>/dev/null
grep -q '^messagebus:' /etc/passwd || echo 'messagebus:x:991:991::/nonexistent:/bin/false' >>/etc/passwd
grep -q '^bluetooth:' /etc/group || echo 'bluetooth:x:992:' >>/etc/group
rm -rf /var/lib/bluetooth
mkdir -p /run/dbus /var/lib/bluetooth
dbus-daemon --system --nofork --nopidfile --nosyslog 2>$stage/dbus.txt &
cd "$REPOSITORY" || exit 1
export PYTHONPATH="$REPOSITORY" PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 VAGUS_BLUEZ=$stage
eval "set -- $ARGUMENTS"
"$PYTHON" -m pytest -p no:cacheprovider --junitxml=$stage/junit.xml "$@" >$stage/pytest.txt 2>&1
echo $? >$stage/exit
dmesg >$stage/dmesg.txt
sync
busybox poweroff -f
