/** The configurations that the pod writes for the proxy and for the embedded web server. They are for people to read and change. */
import { existsSync } from "node:fs";
import { isIP } from "node:net";
import type { Endpoint, Remote } from "./options.ts";
import { PodError } from "./ports.ts";

export interface ProxyPorts {
  readonly ingress: Endpoint;
  readonly egress: Endpoint;
  readonly admin: Endpoint;
  readonly web: Endpoint;
}

/** Where systems keep the certificates of the authorities they trust. */
const AUTHORITIES = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/ssl/ca-bundle.pem",
  "/etc/ssl/cert.pem",
  "/opt/homebrew/etc/ca-certificates/cert.pem",
];

/** As a YAML scalar in double quotes. */
function quote(text: string): string {
  return JSON.stringify(text);
}

function address(endpoint: Endpoint): string {
  return `{ socket_address: { address: ${quote(endpoint.host)}, port_value: ${endpoint.port} } }`;
}

/** The web server listens where the proxy's cluster looks for it; one that listens everywhere is reached through loopback. */
export function reachable(endpoint: Endpoint): Endpoint {
  if (endpoint.host === "0.0.0.0") return { ...endpoint, host: "127.0.0.1" };
  return endpoint.host === "::" ? { ...endpoint, host: "::1" } : endpoint;
}

const MANAGER = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const STDOUT_LOG = "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";

function egressRoutes(remote: Remote | undefined): string {
  if (remote === undefined)
    return `                      routes:
                        - match: { prefix: / }
                          direct_response: { status: 503, body: { inline_string: "no remote service is configured: start the pod with --egress HOST:PORT\\n" } }`;
  return `                      routes:
                        - match: { prefix: / }
                          route:
                            cluster: remote
                            auto_host_rewrite: true
                            timeout: 30s
                            retry_policy:
                              retry_on: connect-failure,refused-stream,reset-before-request
                              num_retries: 3
                              per_try_timeout: 10s`;
}

function remoteCluster(remote: Remote): string {
  const isName = isIP(remote.host) === 0;
  const authorities = AUTHORITIES.find((path) => existsSync(path));
  if (remote.tls && authorities === undefined)
    throw new PodError("--egress with TLS: no certificates of trusted authorities on this machine (install the package ca-certificates)");
  const tls = `
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext${isName ? `\n          sni: ${quote(remote.host)}` : ""}
          common_tls_context:
            validation_context: { trusted_ca: { filename: ${authorities} }${subjectNames(remote, isName)} }`;
  return `
    # What the pod's own program calls through the egress port.
    - name: remote
      type: ${isName ? "LOGICAL_DNS" : "STATIC"}
      connect_timeout: 3s
      load_assignment:
        cluster_name: remote
        endpoints:
          - lb_endpoints:
              - endpoint: { address: ${address(remote)}${isName ? `, hostname: ${quote(remote.host)}` : ""} }${remote.tls ? tls : ""}
`;
}

function subjectNames(remote: Remote, isName: boolean): string {
  return `, match_typed_subject_alt_names: [{ san_type: ${isName ? "DNS" : "IP_ADDRESS"}, matcher: { exact: ${quote(remote.host)} } }]`;
}

/** envoy.yaml: ingress to the web server, egress to the remote service, admin. */
export function proxyConfig(ports: ProxyPorts, remote: Remote | undefined): string {
  return `# The pod's proxy. Written anew whenever the pod starts; real Envoy 1.40 takes it, too.
admin:
  address: ${address(ports.admin)}
static_resources:
  listeners:
    # From the world outside to the web server.
    - name: ingress
      traffic_direction: INBOUND
      address: ${address(ports.ingress)}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": ${MANAGER}
                stat_prefix: ingress
                use_remote_address: true
                # Every request has an id, in its log line, in what the web server sees and in the answer.
                generate_request_id: true
                always_set_request_id_in_response: true
                normalize_path: true
                merge_slashes: true
                request_headers_timeout: 15s
                stream_idle_timeout: 60s
                common_http_protocol_options: { idle_timeout: 300s }
                upgrade_configs: [{ upgrade_type: websocket }]
                access_log:
                  - name: envoy.access_loggers.stdout
                    typed_config: { "@type": ${STDOUT_LOG} }
                route_config:
                  virtual_hosts:
                    - name: web
                      domains: ["*"]
                      routes:
                        - match: { prefix: / }
                          route:
                            cluster: web
                            timeout: 300s
                            # The web server may be starting again: no request that it has not seen is lost to that.
                            retry_policy:
                              retry_on: connect-failure,refused-stream,reset-before-request
                              num_retries: 6
                              retry_back_off: { base_interval: 0.2s, max_interval: 2s }
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: { "@type": ${ROUTER} }
    # From the pod's own program to the remote service.
    - name: egress
      traffic_direction: OUTBOUND
      address: ${address(ports.egress)}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": ${MANAGER}
                stat_prefix: egress
                generate_request_id: true
                always_set_request_id_in_response: true
                stream_idle_timeout: 60s
                access_log:
                  - name: envoy.access_loggers.stdout
                    typed_config: { "@type": ${STDOUT_LOG} }
                route_config:
                  virtual_hosts:
                    - name: remote
                      domains: ["*"]
${egressRoutes(remote)}
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: { "@type": ${ROUTER} }
  clusters:
    - name: web
      type: STATIC
      connect_timeout: 1s
      load_assignment:
        cluster_name: web
        endpoints:
          - lb_endpoints:
              - endpoint: { address: ${address(reachable(ports.web))} }
${remote === undefined ? "" : remoteCluster(remote)}`;
}

/** web.yaml: the embedded web server for a folder. */
export function embeddedWebConfig(listen: Endpoint, root: string): string {
  return `# The pod's embedded web server: Outrider serving the files of one folder. Written anew whenever the pod starts.
static_resources:
  listeners:
    - name: web
      address: ${address(listen)}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": ${MANAGER}
                stat_prefix: web
                normalize_path: true
                access_log:
                  - name: envoy.access_loggers.stdout
                    typed_config: { "@type": ${STDOUT_LOG} }
                route_config:
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      routes: [{ match: { prefix: / }, direct_response: { status: 404, body: { inline_string: "not found\\n" } } }]
                http_filters:
                  - name: envoy.filters.http.file_server
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.file_server.v3.FileServerConfig
                      manager_config: { id: web, thread_pool: {} }
                      path_mappings:
                        - { request_path_prefix: /, file_path_prefix: ${quote(`${root.replace(/\/$/, "")}/`)} }
                      content_types:
                        { html: text/html, htm: text/html, css: text/css, js: text/javascript, mjs: text/javascript, json: application/json, txt: text/plain,
                          md: text/markdown, xml: application/xml, svg: image/svg+xml, png: image/png, jpg: image/jpeg, jpeg: image/jpeg, gif: image/gif,
                          webp: image/webp, ico: image/x-icon, woff2: font/woff2, wasm: application/wasm, pdf: application/pdf, mp4: video/mp4 }
                      default_content_type: application/octet-stream
                      directory_behaviors: [{ default_file: index.html }, { list: {} }]
                  - name: envoy.filters.http.router
                    typed_config: { "@type": ${ROUTER} }
`;
}
