#!/bin/sh
# Packs the package as it would be published, installs it in an empty folder, and runs the command and the API from there.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$root"
npm pack --silent --pack-destination "$folder" >/dev/null
tarball=$(ls "$folder"/outrider-*.tgz)
tar -tzf "$tarball" | sed 's,^package/,,' >"$folder/list"
# Nothing but what is published, and all of it.
unwanted=$(grep -vE '^(bin/|dist/|package\.json$|README\.md$|CHANGELOG\.md$|LICENSE$|NOTICE$)' "$folder/list" || true)
[ -z "$unwanted" ] || { echo "in the package by mistake:"; echo "$unwanted"; exit 1; }
for file in bin/outrider bin/node bin/daemontools/svc dist/cli/main.js dist/worker/entry.js dist/api.js dist/api.d.ts dist/sdk/filter.js dist/sdk/filter.d.ts LICENSE NOTICE README.md; do
  grep -qx "$file" "$folder/list" || { echo "missing in the package: $file"; exit 1; }
done
if grep -E '\.ts$' "$folder/list" | grep -qvE '\.d\.ts$'; then echo "sources in the package"; exit 1; fi
mkdir "$folder/app"
cd "$folder/app"
echo '{ "private": true, "type": "module" }' >package.json
npm install --silent --no-audit --no-fund --prefer-offline --ignore-scripts "$tarball"
# The Node of the checkout, where the system's is too old.
OUTRIDER_NODE=$("$root/bin/node" -p process.execPath)
export OUTRIDER_NODE
node_modules/.bin/outrider --version
cat >config.yaml <<'YAML'
static_resources:
  listeners:
  - name: main
    address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: main
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{ match: { prefix: / }, direct_response: { status: 200, body: { inline_string: packed } } }]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
YAML
node_modules/.bin/outrider --mode validate -c config.yaml
cat >app.mjs <<'JS'
import { start } from "outrider";
const proxy = await start({ configPath: "config.yaml" });
const text = await (await fetch(`http://${proxy.address("main")}/`)).text();
await proxy.stop();
console.log(text);
if (text !== "packed") process.exitCode = 1;
JS
"$OUTRIDER_NODE" app.mjs
# A filter as a user begins one, beside the installed package.
node_modules/.bin/outrider new-filter my-filter >/dev/null
(cd my-filter && "$OUTRIDER_NODE" --test --test-reporter=dot)
node_modules/outrider/bin/daemontools/svok "$folder" && exit 1 || [ $? -eq 100 ]
echo "package: $(wc -l <"$folder/list") files, $(wc -c <"$tarball") bytes"
