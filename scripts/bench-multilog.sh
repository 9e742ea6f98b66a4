#!/bin/sh
# bench-multilog.sh [MEGABYTES [SCRIPT...]]: what multilog carries, ours beside DJB's where that is installed. Lines of 100 bytes come through a pipe
# from a file in memory and go to files in memory, so that no disk is measured. The default script is `t s16777215 n5`. Best of three.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
megabytes=${1:-300}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- t s16777215 n5
memory=/dev/shm
[ -w "$memory" ] || memory=${TMPDIR:-/tmp}
folder=$(mktemp -d "$memory/outrider-bench.XXXXXX")
trap 'rm -rf "$folder"' EXIT
awk -v lines=10000 'BEGIN { for (i = 0; i < lines; i++) printf "%09d %s\n", i, "the quick brown fox jumps over the lazy dog, and the lazy dog does not mind it at all, so....." }' |
  cut -c 1-99 >"$folder/megabyte"
i=0
while [ "$i" -lt "$megabytes" ]; do
  cat "$folder/megabyte"
  i=$((i + 1))
done >"$folder/input"
size=$(wc -c <"$folder/input")
for multilog in "$root/bin/daemontools/multilog" /usr/bin/multilog; do
  [ -x "$multilog" ] || { echo "$multilog: not installed"; continue; }
  best=
  for _ in 1 2 3; do
    rm -rf "$folder/main"
    begin=$(date +%s%N)
    # A pipe from another program, as a log has it.
    # shellcheck disable=SC2002
    cat "$folder/input" | timeout 120 "$multilog" "$@" "$folder/main"
    took=$(($(date +%s%N) - begin))
    if [ -z "$best" ] || [ "$took" -lt "$best" ]; then best=$took; fi
  done
  echo "$multilog $*: $((size * 1000 / best)) MB/s"
done
