#!/bin/sh
# daemontools.sh SUITE: the suite's checks of bin/daemontools. What is listed in daemontools-expected-failures.txt may fail; a listed check that
# passes fails here, so that the list stays exact. A check that fails beside others is tried once more alone before it counts.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
list=$root/conformance/daemontools-expected-failures.txt
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
bash "$1/run.sh" "$root/bin/daemontools" >"$folder/out" 2>&1
grep -v '^ok ' "$folder/out"
grep -q '^[0-9]* passed, ' "$folder/out" || { echo "the suite did not come to its end"; exit 1; }
failed() { sed -n 's/^not ok \([^ :]*\).*/\1/p' "$1" | sort; }
sed 's/#.*//; s/[[:space:]]//g; /^$/d' "$list" | sort >"$folder/known"
failed "$folder/out" >"$folder/first"
comm -13 "$folder/first" "$folder/known" >"$folder/mended"
comm -23 "$folder/first" "$folder/known" >"$folder/again"
: >"$folder/new"
while read -r name; do
  JOBS=1 bash "$1/run.sh" "$root/bin/daemontools" "$name" >"$folder/retry" 2>&1
  failed "$folder/retry" | grep -qx -e "$name" && echo "$name" >>"$folder/new"
done <"$folder/again"
[ -s "$folder/new" ] && { echo "fails, also alone, and is not listed:"; cat "$folder/new"; }
[ -s "$folder/mended" ] && { echo "is listed and passes, take it off the list:"; cat "$folder/mended"; }
[ ! -s "$folder/new" ] && [ ! -s "$folder/mended" ]
