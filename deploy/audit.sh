#!/bin/sh
# Ask a public list of known vulnerabilities about every package of deploy/requirements.lock (`make audit`).
# Exit 0: every package was asked about, and nothing is known. 1: something is known. 3: nothing can be said, because
# the list cannot be reached or does not know a package; never taken for good news. $1 is the pip-audit program.
set -u

audit=${1:?name the pip-audit program}
folder=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd) || exit 3
lock=$folder/deploy/requirements.lock
work=$(mktemp -d) || exit 3
trap 'rm -rf "$work"' EXIT
trap 'exit 3' HUP INT TERM

for list in pypi osv; do
    "$audit" --vulnerability-service "$list" --require-hashes --disable-pip --progress-spinner off --format json \
        --requirement "$lock" --output "$work/said" 2>"$work/trouble"
    [ -s "$work/said" ] || continue
    # One package may have several entries; each is known or has a reason why it was skipped.
    skipped=$(grep -o '"skip_reason"' "$work/said" | wc -l)
    asked=$(grep -o '"vulns"' "$work/said" | wc -l)
    known=$(grep -oE '"id": *"[^"]+"' "$work/said" | cut -d'"' -f4 | sort -u)
    if [ -n "$known" ]; then
        echo "known vulnerabilities of what is shipped, by the list \"$list\":"
        "$audit" --vulnerability-service "$list" --require-hashes --disable-pip --progress-spinner off \
            --requirement "$lock" 2>/dev/null || echo "$known"
        exit 1
    fi
    if [ "$skipped" -eq 0 ] && [ "$asked" -gt 0 ]; then
        echo "$asked packages, none with a known vulnerability, by the list \"$list\""
        exit 0
    fi
    : >"$work/said"
done

echo "NOT AUDITED: no list of vulnerabilities can be reached from here, or none knows these packages." >&2
tail -n 1 "$work/trouble" | cut -c1-300 >&2
exit 3
