#!/bin/sh
# In the guest: a bus, then the tests, then the end. The bus starts BlueZ as soon as somebody speaks to it, and again
# after it was killed or crashed, as systemd does elsewhere; the wearables are started and ended by the tests.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root
stage=/run/stage
. $stage/settings
ip link set lo up 2>/dev/null || busybox ip link set lo up
hostname ward 2>/dev/null
grep -q '^messagebus:' /etc/passwd || echo 'messagebus:x:991:991::/nonexistent:/bin/false' >>/etc/passwd
grep -q '^bluetooth:' /etc/group || echo 'bluetooth:x:992:' >>/etc/group
rm -rf /var/lib/bluetooth
mkdir -p /run/dbus /var/lib/bluetooth
for daemon in /usr/libexec/bluetooth/bluetoothd /usr/lib/bluetooth/bluetoothd; do
    [ ! -x $daemon ] || break
done
printf '#!/bin/sh\nexec %s --nodetach --debug >>%s 2>&1\n' $daemon $stage/bluetoothd.txt >/usr/local/sbin/start-bluez
chmod 755 /usr/local/sbin/start-bluez
printf '[D-BUS Service]\nName=org.bluez\nUser=root\nExec=/usr/local/sbin/start-bluez\n' \
    >/usr/share/dbus-1/system-services/org.bluez.service
dbus-daemon --system --nofork --nopidfile --nosyslog 2>$stage/dbus.txt &
btmon --write $stage/hci.btsnoop >/dev/null 2>&1 &
cd "$REPOSITORY" || exit 1
export PYTHONPATH="$REPOSITORY" PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 VAGUS_BLUEZ=$stage
eval "set -- $ARGUMENTS"
"$PYTHON" -m pytest -p no:cacheprovider --junitxml=$stage/junit.xml "$@" >$stage/pytest.txt 2>&1
echo $? >$stage/exit
dmesg >$stage/dmesg.txt
sync
busybox poweroff -f
