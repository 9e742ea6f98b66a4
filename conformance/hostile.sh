#!/bin/sh
# hostile.sh SUITE [PYTHON]: plays the suite's hostile HTTP/1 bytes against a proxy started with the suite's own envoy.yaml.
set -u
suite=$1
python=${2:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
log=$(mktemp)
"$root/bin/outrider" -c "$suite/envoy.yaml" -l warn --use-dynamic-base-id --concurrency 2 >"$log" 2>&1 &
proxy=$!
trap 'kill "$proxy" 2>/dev/null; wait "$proxy" 2>/dev/null; rm -f "$log"' EXIT
trap 'exit 1' INT TERM
tries=0
until "$python" -c 'import urllib.request as u; assert u.urlopen("http://127.0.0.1:21090/ready", timeout=1).status == 200' 2>/dev/null; do
  tries=$((tries + 1))
  if ! kill -0 "$proxy" 2>/dev/null || [ "$tries" -gt 100 ]; then
    echo "the proxy did not start:" >&2
    cat "$log" >&2
    exit 1
  fi
  sleep 0.1
done
"$python" "$suite/run.py" --listen 127.0.0.1:21000 --edge 127.0.0.1:21001 --backend-port 21010 >"$log.out"
code=$?
grep -v '^ok ' "$log.out"
rm -f "$log.out"
exit "$code"
