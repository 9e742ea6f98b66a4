/** PluginConfig to a plugin. */
import { encodeMessage } from "../../config/binary-encode.ts";
import { type AnyMessage, durationMs, type JsonObject } from "../../config/message.ts";
import type { PluginConfig, VmConfig } from "../../config/schema/types/envoy.extensions.wasm.v3.d.ts";
import { readDataSource } from "../../net/tls/data-source.ts";
import type { CompileContext, Honours } from "../extension.ts";
import { codeKey, type FailurePolicy, type PluginSettings, WasmPlugin } from "./plugin.ts";

const pkg = "envoy.extensions.wasm.v3.";
export const honours: Honours = {
  [`${pkg}PluginConfig`]: "*",
  [`${pkg}VmConfig`]: ["vm_id", "runtime", "code", "configuration", "environment_variables", "capability_restriction_config", "allow_precompiled"],
  [`${pkg}EnvironmentVariables`]: "*",
  [`${pkg}CapabilityRestrictionConfig`]: "*",
  [`${pkg}SanitizationConfig`]: "*",
  [`${pkg}ReloadConfig`]: "*",
  "envoy.config.core.v3.AsyncDataSource": ["local"],
};

/** Runtimes that are served by the one of this program; names as Envoy knows them. */
const runtimes = new Set(["", "envoy.wasm.runtime.v8"]);

/** undefined: it cannot be used, and a finding says so. */
export function compilePlugin(config: PluginConfig | undefined, context: CompileContext, at: object, field: string): WasmPlugin | undefined {
  const message = config?.vm.case === "vmConfig" ? config.vm.value : undefined;
  if (config === undefined || message === undefined) {
    context.report(config ?? at, config === undefined ? field : "vm_config", { code: "OR5701", text: "a Wasm plugin needs a vm_config" });
    return undefined;
  }
  const refuse = (why: string): undefined => {
    context.report(config, "vm_config", { code: "OR5702", text: `Unable to create Wasm plugin ${config.name}${why === "" ? "" : `: ${why}`}` });
    return undefined;
  };
  if (!runtimes.has(message.runtime)) return refuse(`there is no runtime ${message.runtime}, only envoy.wasm.runtime.v8`);
  const code = readCode(message, context);
  const settings = pluginSettings(config, message, context);
  if (code === undefined || code.length === 0) return settings.failurePolicy === "fail_open" && code !== undefined ? undefined : refuse("there is no code");
  const module = compiledModule(message, code);
  const plugin = new WasmPlugin(settings, module, codeKey(code), context);
  // Envoy starts it once while it reads the configuration, and once in each worker.
  if (!plugin.start() && settings.failurePolicy !== "fail_open") return refuse("");
  return plugin;
}

function readCode(message: VmConfig, context: CompileContext): Buffer | undefined {
  const specifier = message.code?.specifier;
  return specifier?.case === "local" ? readDataSource(specifier.value, context) : undefined;
}

interface Holder {
  $module?: WebAssembly.Module;
  $bytes?: Uint8Array;
}

/** The code compiled once: the main thread's module travels to the workers with the message. */
function compiledModule(message: VmConfig, code: Buffer): () => WebAssembly.Module {
  const holder = message as Holder;
  return () => (holder.$module ??= new WebAssembly.Module(code));
}

function pluginSettings(config: PluginConfig, message: VmConfig, context: CompileContext): PluginSettings {
  const restriction = config.capabilityRestrictionConfig ?? message.capabilityRestrictionConfig;
  const names = Object.keys(restriction?.allowedCapabilities ?? {});
  return {
    name: config.name,
    rootId: config.rootId,
    configuration: anyToBytes(config.configuration),
    failurePolicy: policyOf(config),
    reloadBackoffMs: durationMs(config.reloadConfig?.backoff?.baseInterval, 1000),
    allowOnHeadersStopIteration: config.allowOnHeadersStopIteration ?? false,
    vm: {
      vmId: message.vmId,
      configuration: anyToBytes(message.configuration),
      environment: environment(message, context),
      allowed: names.length === 0 ? undefined : new Set(names),
    },
  };
}

function policyOf(config: PluginConfig): FailurePolicy {
  switch (config.failurePolicy) {
    case 1:
      return "fail_reload";
    case 2:
      return "fail_closed";
    case 3:
      return "fail_open";
    default:
      return config.failOpen ? "fail_open" : "fail_closed";
  }
}

function environment({ environmentVariables }: VmConfig, context: CompileContext): (readonly [string, string])[] {
  if (environmentVariables === undefined) return [];
  const variables = Object.entries(environmentVariables.keyValues);
  for (const key of environmentVariables.hostEnvKeys) {
    if (Object.hasOwn(environmentVariables.keyValues, key)) {
      context.report(environmentVariables, "host_env_keys", {
        code: "OR5703",
        text: `Key ${key} is duplicated in envoy.extensions.wasm.v3.VmConfig.environment_variables. All the keys must be unique.`,
      });
      continue;
    }
    const value = process.env[key];
    if (value !== undefined) variables.push([key, value]);
  }
  return variables;
}

/** What a module is given of a google.protobuf.Any: texts and bytes as they are, a Struct as JSON, others in protobuf's binary form. */
function anyToBytes(message: AnyMessage | undefined): Buffer {
  if (message === undefined) return Buffer.alloc(0);
  const { value } = message as AnyMessage & { value?: unknown };
  switch (message.$typeName) {
    case "google.protobuf.StringValue":
      return Buffer.from(typeof value === "string" ? value : "");
    case "google.protobuf.BytesValue":
      return Buffer.from((value as Uint8Array | undefined) ?? []);
    case "google.protobuf.Struct":
      return Buffer.from(JSON.stringify(structOf(message)));
    default: {
      // Workers have no descriptors: the main thread's bytes come with the message.
      const holder = message as Holder;
      return Buffer.from((holder.$bytes ??= new Uint8Array(encodeMessage(message))));
    }
  }
}

function structOf(message: AnyMessage): JsonObject {
  const { $typeName: _type, value, fields, ...rest } = message as AnyMessage & { value?: JsonObject; fields?: JsonObject } & JsonObject;
  return (value as JsonObject | undefined) ?? (fields as JsonObject | undefined) ?? (rest as JsonObject);
}
