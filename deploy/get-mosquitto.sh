#!/bin/sh
# Install mosquitto for the tests that need a real broker. The tests start it themselves, on the loopback interface:
# the system service is neither started nor enabled. Where it cannot be installed, say which tests will be skipped.
set -u

folder=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd) || exit 1

installed() {
    command -v mosquitto >/dev/null 2>&1 || [ -x /usr/sbin/mosquitto ] || [ -x /usr/local/sbin/mosquitto ]
}

skip() {
    echo "mosquitto is not installed: $1."
    echo "These tests need it and will be skipped:"
    found=$(cd "$folder" && grep -rl --include='test_*.py' 'mark\.broker' tests 2>/dev/null | sort)
    if [ -n "$found" ]; then
        echo "$found" | sed 's/^/  /'
    else
        echo "  every test marked 'broker'"
    fi
    exit 0
}

if installed; then
    exit 0
fi
command -v apt-get >/dev/null 2>&1 || skip "there is no apt-get here; install it with this system's own tools"

if [ "$(id -u)" -eq 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    skip "that takes root (sudo apt-get install mosquitto)"
fi

# Debian's packages start their service on installation unless policy-rc.d forbids it (exit 101), and enable it for
# the next start unless it is masked. A broker that listens is for the owner of the machine to want.
policy=/usr/sbin/policy-rc.d
unit=/etc/systemd/system/mosquitto.service
made_policy=""
made_mask=""

undo() {
    [ -z "$made_policy" ] || $as_root rm -f "$policy"
    [ -z "$made_mask" ] || $as_root rm -f "$unit"
}
trap undo EXIT
trap 'exit 1' HUP INT TERM

if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null && $as_root chmod 755 "$policy" && made_policy=yes
    [ -n "$made_policy" ] || skip "a start of its service could not be forbidden"
fi
if [ -d /etc/systemd/system ] && [ ! -e "$unit" ] && [ ! -L "$unit" ]; then
    $as_root ln -s /dev/null "$unit" && made_mask=yes
fi

install_quietly() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes --no-install-recommends mosquitto
}

if ! install_quietly >/dev/null 2>&1; then
    $as_root apt-get update --quiet --quiet >/dev/null 2>&1
    install_quietly >/dev/null 2>&1 || skip "apt-get could not install it"
fi
installed || skip "apt-get installed no mosquitto program"
[ -z "$made_mask" ] || made_mask="" # the mask stays: without it the service would start with the machine
echo "mosquitto is installed for the tests; its system service stays masked (systemctl unmask mosquitto to use it)."
