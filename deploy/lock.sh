#!/bin/sh
# Write deploy/requirements.lock anew (`make lock`): every package that a running agent needs, with the sha256 of each
# of its files, for 64-bit Linux on x86-64 and Arm and each Python of pyproject.toml. Wheels only: a device in the
# field has no compiler. At the end each machine's set is resolved from the new lock, hashes and all, so that a package
# without a wheel for one of them is found here. What turns the source into a wheel is written to deploy/build.lock.
# $1 is the uv program.
set -eu

uv=${1:?name the uv program}
folder=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
lock=$folder/deploy/requirements.lock
cd "$folder"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

"$uv" pip compile pyproject.toml --universal --python-version 3.11 --only-binary :all: --generate-hashes --upgrade \
    --no-emit-index-url --no-annotate --no-header --quiet --output-file "$work/resolved" >/dev/null

# uv writes the two machines of [tool.uv] on every line. They are left out, so that a third kind of machine is refused
# for want of a wheel, and does not pass with nothing installed.
{
    echo "# Written by \`make lock\` from pyproject.toml; never by hand. Install with pip --require-hashes."
    echo "--only-binary :all:"
    sed -E \
        -e "s/ ; \(platform_machine == 'aarch64' or platform_machine == 'x86_64'\) and sys_platform == 'linux'//" \
        -e "s/ and \(\(platform_machine == 'aarch64' and sys_platform == 'linux'\) or \(platform_machine == 'x86_64' and sys_platform == 'linux'\)\)//" \
        "$work/resolved"
} >"$work/requirements.lock"

for machine in x86_64 aarch64; do
    for python in 3.11 3.12 3.13; do
        "$uv" pip install --dry-run --quiet --require-hashes --requirement "$work/requirements.lock" \
            --target "$work/none" --python-platform "$machine-manylinux_2_28" --python-version "$python" ||
            { echo "the new lock does not install on $machine with Python $python; the old one stays" >&2; exit 1; }
        echo "resolves on $machine with Python $python"
    done
done
sed -n 's/^requires = \["\(.*\)"\]$/\1/p' pyproject.toml >"$work/build"
{
    echo "# Written by \`make lock\`: what turns the source into a wheel."
    "$uv" pip compile "$work/build" --universal --python-version 3.11 --only-binary :all: --generate-hashes --upgrade \
        --no-emit-index-url --no-annotate --no-header --quiet | sed 's/ ; .*[^ \\]//'
} >"$work/build.lock"

mv "$work/build.lock" deploy/build.lock
mv "$work/requirements.lock" "$lock"
echo "wrote deploy/requirements.lock: $(grep -c == "$lock") lines of packages"
