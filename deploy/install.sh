#!/usr/bin/env bash
# Install vagus on a Raspberry Pi, a Jetson or a PC, or bring it to another version.
#
#   install.sh [--bundle FILE]      from vagus-VERSION-ARCH.tar; without it, from the folder that this script lies in
#   install.sh --version VERSION    back to a version that is installed already
#   install.sh --uninstall [--purge]   remove it; --purge also removes its config, its data and its user
#
#   --dry-run     say every step and do none
#   --no-start    install, but neither start nor restart it
#   --root DIR    into the system that lies in DIR (an image), or into an empty folder
#
# Run it as root. It may be run again at any time: what is as it should be stays as it is. A new version comes beside
# the old one and is switched to when it is whole and gives its golden answers here; one that does not start is
# switched back from. All is written to /var/log/vagus-install.log.
set -euo pipefail
umask 022

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
bundle="" wanted="" root="" dry="" uninstall="" purge="" start=yes
args=("$@")
changed=0 work="" unfinished="" former="" switched=""

say() {
    echo "$*"
    [ -n "$dry" ] || [ -z "${log:-}" ] || echo "$(date -u +%FT%TZ) $*" >>"$log"
}

die() {
    say "install: $1" >&2
    shift
    for line in "$@"; do say "         $line" >&2; done
    exit 1
}

hint() { say "  note: $*"; }

# step WORDS COMMAND…: do something that changes this machine, or only say so.
step() {
    local words=$1
    shift
    changed=$((changed + 1))
    if [ -n "$dry" ]; then
        say "  would $words"
        return
    fi
    say "  $words"
    "$@" >>"$log" 2>&1 || die "could not $words" "the last lines of $log say why:" "$(tail -n 3 "$log")"
}

ended() {
    local status=$?
    [ -z "$unfinished" ] || rm -rf "$unfinished"
    [ -z "$work" ] || rm -rf "$work"
    if [ "$status" -ne 0 ] && [ -z "$dry" ] && [ -L "$root/opt/vagus/current" ] && [ -z "$uninstall$switched" ]; then
        say "Nothing was switched: $(basename "$(readlink "$root/opt/vagus/current")") is as it was."
    fi
}
trap ended EXIT
trap 'exit 1' HUP INT TERM

while [ $# -gt 0 ]; do
    case $1 in
        --bundle) bundle=${2:?--bundle wants a file} && shift ;;
        --version) wanted=${2:?--version wants a version} && shift ;;
        --root) root=${2:?--root wants a folder} && shift ;;
        --dry-run) dry=yes ;;
        --no-start) start="" ;;
        --uninstall) uninstall=yes ;;
        --purge) purge=yes ;;
        -h | --help) sed -n '2,15s/^# \{0,1\}//p' "$0" && exit 0 ;;
        *) echo "install: what is \"$1\"? See --help" >&2 && exit 2 ;;
    esac
    shift
done
[ -z "$purge" ] || [ -n "$uninstall" ] || { echo "install: --purge goes with --uninstall" >&2 && exit 2; }
[[ -z $wanted || $wanted =~ ^[0-9][A-Za-z0-9.+!_-]*$ ]] || { echo "install: \"$wanted\" is no version" >&2 && exit 2; }
root=${root%/}
if [ -n "$root" ]; then
    [ -d "$root" ] || die "$root is no folder"
    root=$(CDPATH='' cd -- "$root" && pwd)
    [ "$root" = / ] && root=""
fi
# A folder that holds no system gets the files alone: no user, no unit is started, and programs are this machine's.
is_system=yes is_here=""
[ -z "$root" ] || [ -x "$root/bin/sh" ] || is_system=""
[ -n "$root" ] || [ ! -d /run/systemd/system ] || is_here=yes
[ -n "$is_here" ] || start=""
[ -n "$root" ] || [ "$(id -u)" -eq 0 ] || [ -n "$dry" ] || die "this takes root:  sudo $0 ${args[*]}"

if [ -z "$dry" ]; then
    log=$root/var/log/vagus-install.log
    mkdir -p "$root/var/log"
    (umask 077 && : >>"$log")
    [ "$(stat -c %s "$log")" -lt 1000000 ] || mv "$log" "$log.1"
fi

# --- what this machine is -------------------------------------------------------------------------------------------

check_architecture() {
    machine=$(uname -m)
    case $machine in
        aarch64 | x86_64) ;;
        arm64) machine=aarch64 ;;
        armv6l | armv7l | armv8l | i?86)
            die "this is a 32-bit system ($machine), and there are no models for one." \
                "Write the 64-bit image (Raspberry Pi OS 64-bit) to the SD card and start again." ;;
        *) die "this is a $machine; vagus runs on 64-bit Arm and x86." ;;
    esac
    [ "$(getconf LONG_BIT)" = 64 ] ||
        die "the kernel is 64-bit, but the system on it is 32-bit: its Python cannot load the models." \
            "Write the 64-bit image (Raspberry Pi OS 64-bit) to the SD card and start again."
}

of_release() { sed -n "s/^$1=//p" "$root/etc/os-release" 2>/dev/null | tr -d '"'; }

check_system() {
    local id like release name
    id=$(of_release ID) like=$(of_release ID_LIKE) release=$(of_release VERSION_ID) name=$(of_release PRETTY_NAME)
    release=${release:-0} name=${name:-this system}
    [ ! -r "$root/etc/nv_tegra_release" ] || name="$name (JetPack)"
    case $id in
        debian | raspbian) [ "${release%%.*}" -ge 12 ] || die "$name is too old: Debian or Raspberry Pi OS 12 or newer." ;;
        ubuntu) [ "${release%%.*}" -ge 22 ] || die "$name is too old: Ubuntu 22.04 or newer, JetPack 6 or newer." ;;
        *) case " $like " in
            *" debian "* | *" ubuntu "*) hint "$name was not tried; it is like Debian, so it goes on" ;;
            *) die "$name is none that this was made for: Debian 12, Raspberry Pi OS 12, Ubuntu 22.04, JetPack 6, or newer." ;;
        esac ;;
    esac
    say "System: $name, $machine"
}

check_room() {
    local place=$root/opt free
    while [ ! -d "$place" ]; do place=$(dirname "$place"); done
    free=$(($(stat -f -c '%a * %S' "$place") / 1000000))
    [ "$free" -ge 700 ] || die "only $free MB are free on $place, and 700 are needed." \
        "Make room (sudo apt-get clean), or use a larger card."
}

check_clock() {
    [ "$(date +%s)" -ge 1764547200 ] || die "the clock says $(date -u +%F): it is not set." \
        "Connect the network and wait a minute, or:  sudo date -s '2026-12-01 12:00'"
    if [ -n "$is_here" ] && [ "$(timedatectl show -p NTPSynchronized --value 2>/dev/null)" = no ]; then
        hint "the clock is not synchronised yet; alarms carry its time"
    fi
}

check_bluetooth() {
    [ -n "$is_here" ] || return 0
    compgen -G '/sys/class/bluetooth/hci*' >/dev/null ||
        hint "no Bluetooth adapter is seen; wearables over Bluetooth need one, those over MQTT do not"
    command -v bluetoothctl >/dev/null || hint "BlueZ is not installed; for Bluetooth:  sudo apt-get install bluez"
}

# --- which Python ---------------------------------------------------------------------------------------------------

is_fit() { "$1" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; }

# Sets `python`: the system's where it is new enough, else one of our own.
choose_python() {
    local one found=""
    for one in python3 python3.13 python3.12 python3.11; do
        command -v "$one" >/dev/null || continue
        found=$("$one" -c 'import platform; print(platform.python_version())' 2>/dev/null || echo none)
        has_wheels "$found" && is_fit "$one" && python=$(command -v "$one") && return
    done
    python=$root/opt/vagus/python/bin/python3
    [ ! -x "$python" ] || return 0
    if [ -f "$bundle/python.tar" ]; then
        step "unpack the bundle's own Python (this system's is ${found:-missing})" unpack_python
    else
        step "fetch a Python of its own with uv (this system's is ${found:-missing})" fetch_python
    fi
}

# Whether the bundle serves a Python: 3.11.2 → cp311.
has_wheels() {
    local minor=${1%.*}
    compgen -G "$bundle/wheelhouse/numpy-*-cp${minor/./}-*.whl" >/dev/null
}

unpack_python() { tar -xf "$bundle/python.tar" -C "$root/opt/vagus"; }

fetch_python() {
    python3 -m venv "$work/uv" && "$work/uv/bin/python" -m pip install 'uv>=0.9,<0.14' &&
        "$work/uv/bin/uv" python install --no-bin --install-dir "$work/pythons" 3.12 &&
        mv "$work"/pythons/cpython-3.12.* "$root/opt/vagus/python"
}

# --- what is installed from -----------------------------------------------------------------------------------------

# Sets `bundle` to a folder with a wheelhouse, and `version`.
open_bundle() {
    local file=$bundle
    if [ -n "$file" ]; then
        [ -f "$file" ] || die "there is no file $file"
        tar -tf "$file" >"$work/list" 2>/dev/null || die "$file is no bundle, or was cut off on its way"
        ! grep -Eq '^/|(^|/)\.\.(/|$)' "$work/list" || die "$file holds paths that lead out of it: not a bundle of ours"
        tar --no-same-owner -xf "$file" -C "$work"
        [ -z "$(find "$work" ! -type f ! -type d)" ] || die "$file holds links: not a bundle of ours"
        bundle=$(echo "$work"/vagus-*/)
        bundle=${bundle%/}
    elif [ -d "$here/wheelhouse" ]; then
        bundle=$here
    elif [ -f "$here/../pyproject.toml" ]; then
        say "Making a bundle of this source first; that takes some minutes and a network"
        [ -z "$dry" ] || { say "  would run bundle.sh $machine" && exit 0; }
        "$here/bundle.sh" "$machine" --out "$work" >>"$log" 2>&1 || die "no bundle could be made" "$(tail -n 3 "$log")"
        bundle=$(echo "$work"/vagus-*.tar)
        open_bundle
        return
    else
        die "what shall be installed? Name a bundle:  --bundle vagus-VERSION-$machine.tar"
    fi
    [ -f "$bundle/SHA256SUMS" ] && [ -f "$bundle/VERSION" ] || die "${file:-$bundle} is no bundle: it has no SHA256SUMS or VERSION"
    (cd "$bundle" && sha256sum --quiet --strict -c SHA256SUMS) >"$work/sums" 2>&1 ||
        die "the bundle is damaged, nothing of it was used:" "$(head -n 3 "$work/sums")"
    # A file that no sum is for would be trusted unseen.
    (cd "$bundle" && find . -type f ! -name SHA256SUMS -printf '%P\n' | LC_ALL=C sort) >"$work/have"
    cut -c67- "$bundle/SHA256SUMS" | LC_ALL=C sort | cmp -s - "$work/have" ||
        die "the bundle holds files that SHA256SUMS does not name: not a bundle of ours"
    [ "$(cat "$bundle/ARCH")" = "$machine" ] || die "this bundle is for $(cat "$bundle/ARCH"), and this machine is $machine"
    version=$(cat "$bundle/VERSION")
    [ -z "$wanted" ] || [ "$wanted" = "$version" ] || die "the bundle holds $version, and --version asks for $wanted"
}

# --- the steps ------------------------------------------------------------------------------------------------------

make_user() {
    has_users || return 0
    getent group vagus >/dev/null || step "make the group vagus" groupadd --system vagus
    getent passwd vagus >/dev/null || step "make the user vagus" \
        useradd --system --gid vagus --home-dir /var/lib/vagus --no-create-home --shell /usr/sbin/nologin vagus
}

# folder PATH MODE OWNER
folder() {
    local path=$root$1
    if [ -d "$path" ]; then give "$1" "$2" "$3"; else step "make $1" make_folder "$path" "$2" "$3"; fi
}

make_folder() {
    if has_users; then install -d -m "$2" -o "${3%:*}" -g "${3#*:}" "$1"; else install -d -m "$2" "$1"; fi
}

has_users() { [ -n "$is_system" ] && [ "$(id -u)" -eq 0 ]; }

# give PATH MODE OWNER: whose a file is, where there are users.
give() {
    local path=$root$1
    has_users && [ -e "$path" ] || return 0
    [ "$(stat -c '%a %U:%G' "$path")" = "${2#0} $3" ] && return 0
    step "set $1 to $2 $3" give_now "$path" "$2" "$3"
}

give_now() { chown "$3" "$1" && chmod "$2" "$1"; }

# place FILE TARGET: a file of ours at its place.
place() {
    cmp -s "$1" "$root$2" && return 0
    step "write $2" install -D -m 0644 "$1" "$root$2"
}

# written TARGET TEXT
written() {
    printf '%s\n' "$2" >"$work/written"
    place "$work/written" "$1"
}

install_version() {
    local place=$root/opt/vagus/versions/$version sums
    sums=$(sha256sum "$bundle/SHA256SUMS" | cut -d' ' -f1)
    if [ -f "$place/.whole" ]; then
        [ "$(cat "$place/.whole")" = "$sums" ] && return 0
        die "vagus $version is installed already, from other files than these." \
            "A bundle with other contents needs another version."
    fi
    choose_python
    unfinished=$place
    step "install vagus $version into /opt/vagus/versions/$version (a minute or two)" fill "$place"
    [ -n "$dry" ] || echo "$sums" >"$place/.whole"
    unfinished=""
}

fill() {
    rm -rf "$1" && mkdir -p "$1/deploy" && "$python" -m venv --without-pip "$1" &&
        "$1/bin/python" "$(echo "$bundle"/wheelhouse/pip-*.whl)/pip" --isolated --disable-pip-version-check install \
            --no-cache-dir --no-index --find-links "$bundle/wheelhouse" --require-hashes --only-binary=:all: \
            -r "$bundle/requirements.lock" -r "$bundle/vagus.lock" &&
        find "$bundle" -maxdepth 1 -type f ! -name python.tar -exec cp {} "$1/deploy/" \; &&
        "$1/bin/vagus" --version
}

write_config() {
    local id
    [ ! -e "$root/etc/vagus/vagus.toml" ] || return 0
    id=$(cat "$root/etc/hostname" 2>/dev/null || uname -n)
    id=$(printf '%s' "$id" | tr '[:upper:]' '[:lower:]' | tr -c 'a-z0-9-' '-' | sed 's/^-*//; s/-*$//' | cut -c1-40)
    case ${id:-in} in in | fleet | broker | localhost) id="vagus-1" ;; esac
    sed "s/@ID@/$id/" "$shipped/vagus-default.toml" >"$work/vagus.toml"
    step "write /etc/vagus/vagus.toml for the agent \"$id\"" write_now "$work/vagus.toml"
}

write_now() {
    install -m 0640 "$1" "$root/etc/vagus/vagus.toml" && { ! has_users || chgrp vagus "$root/etc/vagus/vagus.toml"; }
}

write_units() {
    local group groups="" credential lines="" name systemd unit=/etc/systemd/system/vagus.service
    place "$shipped/vagus.service" "$unit"
    for group in bluetooth video render apex; do
        [ -z "$is_system" ] || ! getent group "$group" >/dev/null || groups="$groups $group"
    done
    [ -z "$groups" ] || written "$unit.d/10-groups.conf" "[Service]
SupplementaryGroups=${groups# }"
    systemd=$(systemctl --version 2>/dev/null | awk 'NR == 1 { print $2 }' || true)
    if [ "${systemd:-0}" -ge 254 ]; then place "$shipped/vagus-backoff.conf" "$unit.d/20-backoff.conf"; fi
    for credential in "$root"/etc/vagus/credentials/*; do
        [ -f "$credential" ] || continue
        name=$(basename "$credential")
        [[ $name =~ ^[A-Za-z0-9._-]+$ ]] || { hint "/etc/vagus/credentials/$name: such a name is not handed over" && continue; }
        lines="$lines
LoadCredential=$name:/etc/vagus/credentials/$name"
    done
    if [ -n "$lines" ]; then
        written "$unit.d/30-credentials.conf" "[Service]$lines"
    elif [ -e "$root$unit.d/30-credentials.conf" ]; then
        step "remove $unit.d/30-credentials.conf" rm "$root$unit.d/30-credentials.conf"
    fi
    place "$shipped/99-vagus.rules" /etc/udev/rules.d/99-vagus.rules
    place "$shipped/vagus-tmpfiles.conf" /etc/tmpfiles.d/vagus.conf
    place "$shipped/vagus-journald.conf" /etc/systemd/journald.conf.d/vagus.conf
    link /opt/vagus/current/bin/vagus /usr/local/bin/vagus
    link /etc/systemd/system/vagus.service /etc/systemd/system/multi-user.target.wants/vagus.service
    if [ -n "$is_here" ] && [ "$changed" -gt 0 ]; then
        step "have systemd and udev read that" read_units
    fi
}

read_units() {
    udevadm control --reload && udevadm trigger --subsystem-match=tty || echo "udev does not run here"
    systemctl daemon-reload
}

# link TARGET PATH, as seen from within the root
link() {
    [ "$(readlink "$root$2" || true)" != "$1" ] || return 0
    step "link $2" link_now "$1" "$root$2"
}

link_now() { mkdir -p "$(dirname "$2")" && ln -sfn "$1" "$2"; }

# The new version must understand this device's config, and its models must give their golden answers here.
try_version() {
    local vagus=$root/opt/vagus/versions/$version/bin/vagus faults
    [ -z "$dry" ] || { say "  would try vagus $version: its models, and /etc/vagus/vagus.toml" && return; }
    say "  try vagus $version: its models, and /etc/vagus/vagus.toml"
    "$vagus" packs verify >>"$log" 2>&1 || die "the models of $version do not give their golden answers here" "see $log"
    # Outside of the service nobody hands credentials over: that they are there is looked at instead.
    faults=$("$vagus" check "$root/etc/vagus/vagus.toml" 2>&1) && return 0
    faults=$(printf '%s\n' "$faults" | grep -v '/run/credentials/vagus.service/' || true)
    ! grep -q '^/' <<<"$faults" || die "vagus $version cannot run with /etc/vagus/vagus.toml:" "$faults"
}

switch() {
    local current=$root/opt/vagus/current
    former=$(readlink "$current" 2>/dev/null || true)
    [ "$former" != "versions/$version" ] || return 0
    step "switch to $version${former:+ from ${former#versions/}}" set_current "versions/$version"
    switched=yes
}

set_current() {
    ln -sfn "$1" "$root/opt/vagus/current.new"
    mv -fT "$root/opt/vagus/current.new" "$root/opt/vagus/current"
}

start_agent() {
    [ -n "$start" ] || return 0
    if systemctl is-active --quiet vagus && [ "$changed" -eq 0 ]; then return 0; fi
    if [ -n "$dry" ]; then
        say "  would start vagus.service and wait until it is ready"
        return
    fi
    say "  start vagus.service and wait until it is ready"
    changed=$((changed + 1))
    systemctl restart vagus >>"$log" 2>&1 && return 0
    say "install: vagus $version does not become ready; its last words:" >&2
    journalctl -u vagus -n 5 --no-pager -o cat 2>/dev/null | tee -a "$log" >&2 || true
    if [ -n "$switched" ] && [ -n "$former" ]; then
        set_current "$former"
        systemctl restart vagus >>"$log" 2>&1 || true
        die "switched back to ${former#versions/}, which was started again"
    fi
    die "see  systemctl status vagus  and  vagus doctor --config /etc/vagus/vagus.toml"
}

remove() {
    local path
    if [ -n "$is_here" ] && systemctl cat vagus.service >/dev/null 2>&1; then
        step "stop vagus.service" systemctl disable --now vagus.service
    fi
    for path in /etc/systemd/system/multi-user.target.wants/vagus.service /etc/systemd/system/vagus.service \
        /etc/systemd/system/vagus.service.d /etc/udev/rules.d/99-vagus.rules /etc/tmpfiles.d/vagus.conf \
        /etc/systemd/journald.conf.d/vagus.conf /usr/local/bin/vagus /opt/vagus ${purge:+/etc/vagus /var/lib/vagus}; do
        [ ! -e "$root$path" ] && [ ! -L "$root$path" ] || step "remove $path" rm -rf "$root$path"
    done
    if [ -n "$purge" ] && has_users; then
        ! getent passwd vagus >/dev/null || step "remove the user vagus" userdel vagus
        ! getent group vagus >/dev/null || step "remove the group vagus" groupdel vagus
    fi
    [ -z "$is_here" ] || [ "$changed" -eq 0 ] || step "have systemd read that" systemctl daemon-reload
    if [ "$changed" -eq 0 ]; then
        say "vagus is not installed: nothing was changed"
    elif [ -n "$purge" ]; then
        say "Removed, with its config and its data"
    else
        say "Removed. Kept: /etc/vagus (its config) and /var/lib/vagus (its data); --purge removes them too"
    fi
}

# --- in order -------------------------------------------------------------------------------------------------------

# Into an image that has a shell: from within it, so that paths, users and the architecture are its own.
if [ -n "$root" ] && [ -n "$is_system" ]; then
    inside=$root/tmp/vagus-install.$$
    mkdir -p "$inside"
    work=$inside
    cp "$0" "$inside/install.sh"
    within=(--no-start)
    [ -z "$dry" ] || within+=(--dry-run)
    [ -z "$uninstall" ] || within+=(--uninstall)
    [ -z "$purge" ] || within+=(--purge)
    [ -z "$wanted" ] || within+=(--version "$wanted")
    if [ -n "$bundle" ]; then
        cp "$bundle" "$inside/bundle.tar"
        within+=(--bundle "/tmp/vagus-install.$$/bundle.tar")
    elif [ -d "$here/wheelhouse" ]; then
        cp -r "$here/." "$inside/"
    fi
    status=0
    chroot "$root" "/tmp/vagus-install.$$/install.sh" "${within[@]}" || status=$?
    rm -rf "$inside"
    work="" dry=yes
    exit "$status"
fi

if [ -n "$uninstall" ]; then
    remove
    exit 0
fi

work=$(mktemp -d)
say "vagus: research software, not a medical device."
check_architecture
check_system
check_clock
check_bluetooth
if [ -z "$wanted$bundle" ] && [ ! -d "$here/wheelhouse" ] && [ ! -f "$here/../pyproject.toml" ]; then
    wanted=$(basename "$(readlink "$root/opt/vagus/current" || true)") # run from where it was installed
fi
if [ -n "$wanted" ] && [ -z "$bundle" ] && [ -f "$root/opt/vagus/versions/$wanted/.whole" ]; then
    version=$wanted
    shipped=$root/opt/vagus/versions/$version/deploy
else
    check_room
    open_bundle
    shipped=$bundle
fi
[ -z "$dry" ] || say "What would be done:"
make_user
folder /opt/vagus 0755 root:root
folder /opt/vagus/versions 0755 root:root
folder /etc/vagus 0750 root:vagus
folder /etc/vagus/credentials 0700 root:root
folder /etc/vagus/pki 0750 root:vagus
folder /var/lib/vagus 0700 vagus:vagus
[ -f "$root/opt/vagus/versions/$version/.whole" ] && [ -z "$bundle" ] || install_version
write_config
give /etc/vagus/vagus.toml 0640 root:vagus
for file in "$root"/etc/vagus/pki/*; do give "/etc/vagus/pki/$(basename "$file")" 0640 root:vagus; done
for file in "$root"/etc/vagus/credentials/*; do give "/etc/vagus/credentials/$(basename "$file")" 0600 root:root; done
[ "$(readlink "$root/opt/vagus/current" || true)" = "versions/$version" ] || try_version
switch
write_units
start_agent
if [ -n "$dry" ]; then
    say "Nothing was done: --dry-run"
elif [ "$changed" -eq 0 ]; then
    say "vagus $version is installed and as it should be: nothing was changed"
elif [ -n "$start" ]; then
    say "vagus $version is running. Its config: /etc/vagus/vagus.toml. See  systemctl status vagus  and  vagus doctor"
else
    say "vagus $version is installed. Its config: /etc/vagus/vagus.toml. It starts with the machine"
fi
