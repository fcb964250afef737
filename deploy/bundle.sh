#!/usr/bin/env bash
# One file from which a device is installed without a network:  vagus-VERSION-ARCH.tar
#
#   bundle.sh [ARCH] [--python 3.11]... [--with-python] [--out DIR]
#
# ARCH is aarch64 or x86_64 (default: this machine's). --python may be given several times; by default the bundle serves
# each Python that vagus runs on. --with-python adds a Python of its own, for systems whose own is too old (JetPack 6).
# All is checked against the hashes of requirements.lock on its way in, and against SHA256SUMS on its way out.
set -euo pipefail

die() {
    echo "bundle: $*" >&2
    exit 1
}

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
source=$(dirname -- "$here")
arch=$(uname -m)
pythons=()
with_python=""
out=$PWD
while [ $# -gt 0 ]; do
    case $1 in
        aarch64 | x86_64) arch=$1 ;;
        --python) pythons+=("${2:?--python wants a version such as 3.11}") && shift ;;
        --with-python) with_python=yes ;;
        --out) out=${2:?--out wants a folder} && shift ;;
        -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0" && exit 0 ;;
        *) die "what is \"$1\"? See --help" ;;
    esac
    shift
done
[ ${#pythons[@]} -gt 0 ] || pythons=(3.11 3.12 3.13)
own=3.12

python=""
for one in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
    "${one:-none}" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && python=$one && break
done
[ -n "$python" ] || die "needs Python 3.11 or newer with venv here: sudo apt-get install python3-venv"

version=$("$python" -c 'import sys, tomllib; print(tomllib.load(open(sys.argv[1], "rb"))["project"]["version"])' \
    "$source/pyproject.toml")
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git -C "$source" log -1 --format=%ct 2>/dev/null || stat -c %Y "$source/pyproject.toml")}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
name=vagus-$version-$arch
bundle=$work/$name
mkdir -p "$bundle/wheelhouse"
echo "bundle: $name for Python ${pythons[*]}"

# What turns the source into a wheel, in a place of its own.
"$python" -m venv "$work/build"
pip=("$work/build/bin/python" -m pip --disable-pip-version-check --quiet)
"${pip[@]}" install --require-hashes -r "$here/build.lock"
mkdir "$work/source"
(cd "$source" && tar --exclude=__pycache__ -cf - pyproject.toml README.md LICENSE agent firmware_bridge models) | tar -xf - -C "$work/source"
"${pip[@]}" wheel --no-index --no-deps --no-build-isolation --wheel-dir "$bundle/wheelhouse" "$work/source"

# pip itself, so that a device needs no python3-venv.
cat >"$work/pip.lock" <<END
pip==26.3 --hash=sha256:f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13
END
"${pip[@]}" download --no-deps --only-binary=:all: --require-hashes --dest "$bundle/wheelhouse" -r "$work/pip.lock"

platforms=(--platform "manylinux2014_$arch")
for glibc in {17..28}; do
    platforms+=(--platform "manylinux_2_${glibc}_$arch")
done
for one in "${pythons[@]}"; do
    # pip would ask the markers of the Python that it runs on; those of the device's are asked here.
    "$work/build/bin/python" -c '
import sys
from pip._vendor.packaging.markers import Marker

device = {"python_full_version": sys.argv[1] + ".0", "python_version": sys.argv[1], "platform_machine": sys.argv[2]}
kept = True
for line in open(sys.argv[3]):
    if line[0] not in " #-":
        name, _, marker = line.partition(" ; ")
        marker = marker.strip().removesuffix("\\").strip()
        kept = not marker or Marker(marker).evaluate(device)
        line = f"{name} \\\n" if marker else line
    if kept:
        sys.stdout.write(line)
' "$one" "$arch" "$here/requirements.lock" >"$work/lock"
    "${pip[@]}" download --no-deps --require-hashes --dest "$bundle/wheelhouse" -r "$work/lock" \
        --implementation cp --python-version "$one" --abi "cp${one/./}" --abi abi3 --abi none "${platforms[@]}"
done

if [ -n "$with_python" ]; then
    "${pip[@]}" install 'uv>=0.9,<0.14'
    "$work/build/bin/uv" python install --quiet --no-bin --install-dir "$work/python" "cpython-$own-linux-$arch-gnu" ||
        die "a Python for $arch could not be fetched"
    (cd "$work/python" && tar -cf "$bundle/python.tar" --sort=name --owner=0 --group=0 --numeric-owner \
        --mtime="@$SOURCE_DATE_EPOCH" --transform 's,^cpython-[^/]*,python,' cpython-"$own".*)
fi

echo "$version" >"$bundle/VERSION"
echo "$arch" >"$bundle/ARCH"
wheel=$(cd "$bundle/wheelhouse" && echo "vagus-$version"-*.whl)
echo "vagus==$version --hash=sha256:$(sha256sum "$bundle/wheelhouse/$wheel" | cut -d' ' -f1)" >"$bundle/vagus.lock"
for file in requirements.lock install.sh vagus.service 99-vagus.rules vagus-journald.conf vagus-tmpfiles.conf \
    vagus-backoff.conf vagus-default.toml README.md; do
    cp "$here/$file" "$bundle/$file"
done
chmod -R u=rwX,go=rX "$bundle"
(cd "$bundle" && find . -type f ! -name SHA256SUMS -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum) >"$work/sums"
mv "$work/sums" "$bundle/SHA256SUMS"
mkdir -p "$out"
chmod 644 "$bundle/SHA256SUMS"
tar -C "$work" -cf "$work/$name.tar" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" "$name"
mv "$work/$name.tar" "$out/$name.tar"
echo "bundle: $out/$name.tar, $(du -m "$out/$name.tar" | cut -f1) MB, sha256 $(sha256sum "$out/$name.tar" | cut -d' ' -f1)"
