/** Configuration for a sidecar in Kubernetes: a plain one where none is given, and the listener for probes that is merged over any. */

export const PROBE_PORT = 9902;
const ADMIN_PORT = 9901;
const MANAGER = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER = { name: "envoy.filters.http.router", typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } };

/** The admin interface as a configuration has it; undefined: it has none. */
export interface AdminAddress {
  readonly address: string;
  readonly port: number;
}

const socketAddress = (address: string, port: number): object => ({ socket_address: { address, port_value: port } });

function cluster(name: string, address: string, port: number): object {
  return {
    name,
    connect_timeout: "1s",
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(address, port) } }] }] },
  };
}

/** Where the proxy's own container reaches the admin interface. */
export function adminWithinPod(admin: AdminAddress | undefined): AdminAddress {
  return { address: reachable(admin?.address ?? "127.0.0.1"), port: admin?.port ?? ADMIN_PORT };
}

/**
 * Merged over the configuration by --config-yaml: a listener that answers /ready, /live and /stats/prometheus and nothing else. Kubelet and Prometheus
 * come from outside the pod, and the admin interface, which can stop the proxy, stays on loopback.
 */
export function probeConfig(admin: AdminAddress | undefined): object {
  const at = adminWithinPod(admin);
  const route = (path: string, page = path): object => ({
    match: { path, headers: [{ name: ":method", string_match: { exact: "GET" } }] },
    route: { cluster: "outrider_admin", host_rewrite_literal: `127.0.0.1:${at.port}`, ...(page !== path && { prefix_rewrite: page }) },
  });
  // /ready says no while it drains, too. This page passes a worker and the main thread, and says yes as long as both work.
  const routes = [route("/ready"), route("/live", "/hot_restart_version"), route("/stats/prometheus")];
  return {
    ...(admin === undefined && { admin: { address: socketAddress(at.address, at.port) } }),
    static_resources: {
      listeners: [
        {
          name: "outrider_probe",
          address: socketAddress("0.0.0.0", PROBE_PORT),
          filter_chains: [
            {
              filters: [
                {
                  name: "envoy.filters.network.http_connection_manager",
                  typed_config: {
                    "@type": MANAGER,
                    stat_prefix: "outrider_probe",
                    request_headers_timeout: "5s",
                    stream_idle_timeout: "15s",
                    route_config: { virtual_hosts: [{ name: "probe", domains: ["*"], routes }] },
                    http_filters: [ROUTER],
                  },
                },
              ],
            },
          ],
        },
      ],
      clusters: [cluster("outrider_admin", at.address, at.port)],
    },
  };
}

/** An address to bind as one to connect to. */
function reachable(address: string): string {
  return address === "0.0.0.0" ? "127.0.0.1" : address === "::" ? "::1" : address;
}

/** envoy.yaml for who brings none: port 10000 to the web server. */
export function plainConfig(webPort: number): string {
  return `# The sidecar's configuration: what it lets in, and how it treats the web server behind it. Real Envoy 1.40 takes it, too.
admin:
  address: { socket_address: { address: 127.0.0.1, port_value: ${ADMIN_PORT} } }
static_resources:
  listeners:
    - name: ingress
      traffic_direction: INBOUND
      address: { socket_address: { address: 0.0.0.0, port_value: 10000 } }
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": ${MANAGER}
                stat_prefix: ingress
                use_remote_address: true
                generate_request_id: true
                always_set_request_id_in_response: true
                normalize_path: true
                merge_slashes: true
                request_headers_timeout: 15s
                stream_idle_timeout: 60s
                common_http_protocol_options: { idle_timeout: 300s }
                access_log:
                  - name: envoy.access_loggers.stdout
                    typed_config: { "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog }
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
                    typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
  clusters:
    - name: web
      connect_timeout: 1s
      load_assignment:
        cluster_name: web
        endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: ${webPort} } } } }] }]
`;
}
