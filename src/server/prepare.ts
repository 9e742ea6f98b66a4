/**
 * From files to a configuration that is known to be good: load, check the shape, load the extensions it names, check that all of it is
 * supported, compile everything once on this thread. `--mode validate`, start and reload all go through here.
 */
import type { Options } from "../cli/options.ts";
import { compileAdsConfig, compileApiSource, compileConfigSource, type GrpcSource, type XdsSource } from "../config/config-source.ts";
import type { Finding } from "../config/finding.ts";
import { type LoadResult, loadBootstrap, sortFindings } from "../config/load.ts";
import type { Bootstrap } from "../config/schema/types/envoy.config.bootstrap.v3.d.ts";
import type { ApiConfigSource, ConfigSource } from "../config/schema/types/envoy.config.core.v3.d.ts";
import { checkSemantics } from "../config/semantic.ts";
import { checkSupported } from "../config/supported.ts";
import { walkMessages } from "../config/walk.ts";
import { coreHonours } from "../extensions/core-honours.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { compileGrpcService } from "../grpc/service.ts";
import { compileListener } from "../listener/compile.ts";
import { compileApplicationLogConfig } from "../log/system-log.ts";
import { TimerWheel } from "../net/timer-wheel.ts";
import { type CompiledOverload, compileOverload } from "../overload/compile.ts";
import { checkLayeredRuntime, RuntimeLayers } from "../runtime/layers.ts";
import { compileSinks } from "../stats/sinks/sink.ts";
import { StatsStore } from "../stats/stats.ts";
import { checkStatsConfig } from "../stats/stats-config.ts";
import { compileCluster } from "../upstream/compile.ts";
import { adminListenerMessage } from "./admin-listener.ts";
import { checkBootstrapFields, clusterDefaults } from "./bootstrap-fields.ts";
import { ValidatingContext } from "./compile-context.ts";
import type { DynamicSources } from "./dynamic/dynamic-config.ts";
import { compileRuntimeSubscriptions, type RuntimeSubscription } from "./dynamic/runtime.ts";
import { collectMessageTypes, ExtensionSet } from "./extension-set.ts";
import { type LoadedSecrets, loadSecrets } from "./secrets.ts";

export interface Prepared {
  readonly bootstrap: Bootstrap;
  /** What it was made from, to be made from again when secrets change. */
  readonly loaded: LoadResult;
  readonly secrets: LoadedSecrets;
  readonly extensions: ExtensionSet;
  readonly files: ReadonlyMap<string, Uint8Array>;
  readonly node: { readonly id: string; readonly cluster: string; readonly zone: string };
  readonly headerPrefix: string;
  readonly overload: CompiledOverload;
  /** dynamic_resources of the bootstrap. */
  readonly dynamic: DynamicSources;
  /** cluster_manager.load_stats_config */
  readonly loadStats: GrpcSource | undefined;
  readonly runtimeSubscriptions: readonly RuntimeSubscription[];
  /** The system log's line pattern that application_log_config asks for. */
  readonly logFormat: string | undefined;
  /** Unknown fields that were let pass, and uses of deprecated ones: both are counted. */
  readonly unknownFields: number;
  readonly deprecatedFields: number;
}

export interface PrepareResult {
  /** undefined when an error was found. */
  readonly prepared: Prepared | undefined;
  readonly findings: readonly Finding[];
}

export async function prepare(options: Options): Promise<PrepareResult> {
  const loaded = loadBootstrap({
    path: options.configPath || undefined,
    configYaml: options.configYaml || undefined,
    allowUnknownStatic: options.allowUnknownStaticFields,
  });
  return prepareLoaded(loaded, options);
}

/** The same from a configuration that was read before: files that it names are read anew. */
export async function prepareLoaded(loaded: LoadResult, options: Options): Promise<PrepareResult> {
  const findings: Finding[] = [...loaded.findings];
  if (loaded.bootstrap === undefined) return { prepared: undefined, findings };
  const bootstrap = loaded.bootstrap;
  applyNodeFlags(bootstrap, options);

  const extensions = new ExtensionSet();
  const admin = adminListenerMessage(bootstrap);
  await extensions.load([...collectMessageTypes(bootstrap), ...(admin === undefined ? [] : collectMessageTypes(admin))]);
  await extensions.prepare(bootstrap, (message) => loaded.locate(message)?.file);
  const honours: Honours[] = [...coreHonours];
  for (const extension of extensions.values()) honours.push(extension.honours);
  findings.push(
    ...checkSupported(bootstrap, honours, loaded.locate, { allowUnsupported: options.allowUnsupported, disabledExtensions: options.disabledExtensions }),
  );
  findings.push(...checkSemantics(bootstrap, loaded.locate));

  const runtime = new RuntimeLayers(bootstrap.layeredRuntime, bootstrap.node?.cluster ?? "");
  const node = { id: bootstrap.node?.id ?? "", cluster: bootstrap.node?.cluster ?? "", zone: bootstrap.node?.locality?.zone ?? "" };
  const headerPrefix = bootstrap.headerPrefix === "" ? "x-envoy" : bootstrap.headerPrefix;
  const clusters = bootstrap.staticResources?.clusters ?? [];
  const secrets = loadSecrets(bootstrap);
  for (const { secret } of secrets.dynamic)
    findings.push(
      ...checkSupported(secret, honours, () => undefined, { allowUnsupported: options.allowUnsupported, disabledExtensions: options.disabledExtensions }),
    );
  const context = new ValidatingContext(
    {
      extensions,
      secrets: secrets.byKey,
      stats: new StatsStore(),
      runtime,
      timers: new TimerWheel(),
      clusterDefaults: clusterDefaults(bootstrap),
      clusters: { get: () => undefined },
      clusterNames: new Set(clusters.map((cluster) => cluster.name)),
      node,
      headerPrefix,
      options: { fileFlushIntervalMs: options.fileFlushIntervalMs, fileFlushMinBytes: options.fileFlushMinSizeKb * 1024, concurrency: options.concurrency },
    },
    loaded,
    options.allowUnsupported,
  );
  for (const cluster of clusters) compileCluster(cluster, context);
  for (const listener of bootstrap.staticResources?.listeners ?? []) compileListener(listener, context);
  if (admin !== undefined) compileListener(admin, context);
  checkStatsConfig(bootstrap, context);
  checkLayeredRuntime(bootstrap, context);
  compileSinks(bootstrap, context);
  const overload = compileOverload(bootstrap, context);
  checkBootstrapFields(bootstrap, context);
  const dynamic = compileDynamicResources(bootstrap, context);
  checkManagementServers(bootstrap, context);
  const loadStats = compileLoadStats(bootstrap, context);
  const runtimeSubscriptions = compileRuntimeSubscriptions(bootstrap, context);
  const logFormat = compileApplicationLogConfig(bootstrap.applicationLogConfig, context, options.logFormatSet);
  findings.push(...context.findings);

  const unique = sortFindings(dedupe(findings), [options.configPath]);
  const good = !unique.some((finding) => finding.severity === "error");
  const counts = { unknownFields: loaded.unknownFieldCount, deprecatedFields: loaded.deprecatedFields.length };
  return {
    prepared: good
      ? {
          bootstrap,
          loaded,
          secrets,
          extensions,
          files: context.files,
          node,
          headerPrefix,
          overload,
          dynamic,
          loadStats,
          runtimeSubscriptions,
          logFormat,
          ...counts,
        }
      : undefined,
    findings: unique,
  };
}

function compileLoadStats({ clusterManager }: Bootstrap, context: CompileContext): GrpcSource | undefined {
  const config = clusterManager?.loadStatsConfig;
  if (config === undefined) return undefined;
  const source = compileApiSource(config, { key: "", initialFetchTimeoutMs: 0 }, context);
  if (source?.kind === "grpc") return source;
  context.report(config, "api_type", { code: "OR3074", text: "load_stats_config needs api_type GRPC", hint: "api_type: GRPC" });
  return undefined;
}

/** Services that resources come from: as with Envoy, their clusters have to stand in the bootstrap. */
export function checkManagementServers(root: object, context: CompileContext): void {
  const check = ({ grpcServices }: ApiConfigSource): void => {
    for (const service of grpcServices) {
      const settings = compileGrpcService(service, context);
      if (settings === undefined || context.hasCluster(settings.cluster) || service.targetSpecifier.case !== "envoyGrpc") continue;
      const meant = context.nearestCluster?.(settings.cluster);
      context.report(service.targetSpecifier.value, "cluster_name", {
        code: "OR3073",
        text: `Unknown gRPC client cluster '${settings.cluster}'`,
        hint: meant === undefined ? "it has to stand in static_resources.clusters" : `did you mean "${meant}"?`,
      });
    }
  };
  walkMessages(root, ({ message, field }) => {
    if (message.$typeName !== "envoy.config.core.v3.ApiConfigSource") return true;
    // Others are refused as a whole.
    if (field !== undefined && ["api_config_source", "ads_config", "load_stats_config"].includes(field.name)) check(message as unknown as ApiConfigSource);
    return false;
  });
}

function compileDynamicResources({ dynamicResources }: Bootstrap, context: ValidatingContext): DynamicSources {
  const compile = (field: "cds_config" | "lds_config", source: ConfigSource | undefined): XdsSource | undefined =>
    dynamicResources === undefined || source === undefined ? undefined : compileConfigSource(dynamicResources, field, source, context);
  return {
    ads: compileAdsConfig(dynamicResources?.adsConfig, context),
    clusters: compile("cds_config", dynamicResources?.cdsConfig),
    listeners: compile("lds_config", dynamicResources?.ldsConfig),
  };
}

/** --service-node and siblings win over bootstrap.node, and user agent fields are ours. */
function applyNodeFlags(bootstrap: Bootstrap, options: Options): void {
  bootstrap.node ??= {
    $typeName: "envoy.config.core.v3.Node",
    id: "",
    cluster: "",
    dynamicParameters: {},
    userAgentName: "",
    userAgentVersionType: { case: undefined },
    extensions: [],
    clientFeatures: [],
    listeningAddresses: [],
  };
  const node = bootstrap.node;
  if (options.serviceNode !== "") node.id = options.serviceNode;
  if (options.serviceCluster !== "") node.cluster = options.serviceCluster;
  if (options.serviceZone !== "") {
    node.locality ??= { $typeName: "envoy.config.core.v3.Locality", region: "", zone: "", subZone: "" };
    node.locality.zone = options.serviceZone;
  }
  node.userAgentName = "envoy";
}

/** Two checks may find the same thing at the same place: the first says it. */
function dedupe(findings: readonly Finding[]): Finding[] {
  const seen = new Set<string>();
  return findings.filter((finding) => {
    const key = `${finding.origin?.file}:${finding.origin?.line}:${finding.origin?.column}:${finding.origin?.path}:${finding.origin === undefined ? finding.text : finding.code}`;
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}
