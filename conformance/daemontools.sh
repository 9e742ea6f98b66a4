#!/bin/sh
# daemontools.sh SUITE: the suite's checks of bin/daemontools. What is listed in daemontools-expected-failures.txt may fail; a listed check that
# passes fails here, so that the list stays exact.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
list=$root/conformance/daemontools-expected-failures.txt
out=$(mktemp)
trap 'rm -f "$out"' EXIT
bash "$1/run.sh" "$root/bin/daemontools" >"$out" 2>&1
grep -v '^ok ' "$out"
sed -n 's/^not ok \([^ :]*\).*/\1/p' "$out" | sort >"$out.failed"
sed 's/#.*//; s/[[:space:]]//g; /^$/d' "$list" | sort >"$out.known"
new=$(comm -23 "$out.failed" "$out.known")
mended=$(comm -13 "$out.failed" "$out.known")
rm -f "$out.failed" "$out.known"
[ -n "$new" ] && printf 'fails and is not listed:\n%s\n' "$new"
[ -n "$mended" ] && printf 'is listed and passes, take it off the list:\n%s\n' "$mended"
grep -q '^[0-9]* passed, ' "$out" || { echo "the suite did not come to its end"; exit 1; }
[ -z "$new$mended" ]
