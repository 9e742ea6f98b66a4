/** Loads configuration: a file and --config-yaml to one checked Bootstrap, or any message from a file or text, with all problems found. */
import { readFileSync } from "node:fs";
import { extname } from "node:path";
import type { Finding, Origin } from "./finding.ts";
import { parseJson } from "./json-syntax.ts";
import { mergeMessages } from "./merge.ts";
import { Origins, originAt, type Place } from "./origins.ts";
import { checkRules } from "./pgv.ts";
import { parsePlainYaml } from "./plain-yaml.ts";
import { LoadRun, MessageReader, readBinary, type UnknownFieldPolicy } from "./reader.ts";
import { envoySchema } from "./schema/registry.ts";
import type { Bootstrap } from "./schema/types/envoy.config.bootstrap.v3.d.ts";
import type { Messages } from "./schema/types/messages.d.ts";
import { createMessage, type LoadedMessage } from "./shape.ts";
import { SourceText, type SyntaxNode } from "./syntax.ts";
import { parseTextFormat } from "./text-format.ts";
import { parseYaml } from "./yaml-syntax.ts";

export interface LoadOptions {
  /** The file of -c: .yaml .yml .pb .pb_text, anything else is JSON. */
  readonly path?: string | undefined;
  /** The text of --config-yaml, merged over the file. */
  readonly configYaml?: string | undefined;
  /** --allow-unknown-static-fields: unknown fields are warnings. */
  readonly allowUnknownStatic?: boolean | undefined;
}

export interface LoadResult {
  /** undefined where it could not be read at all; else as far as it could be read, also when there are errors. */
  readonly bootstrap: Bootstrap | undefined;
  readonly findings: readonly Finding[];
  /** Whether any finding is an error. */
  readonly failed: boolean;
  /** Where a message of this tree, or a field of it (proto name, also "domains[1]"), stands in the sources. */
  locate(message: object, protoField?: string): Origin | undefined;
  /** Whether this field has a finding already: what else could be said of it would only repeat that. */
  isBroken(message: object, protoField: string): boolean;
  /** Type names of all messages that came in an Any: what extensions the configuration needs. */
  readonly extensionMessages: ReadonlySet<string>;
  /** Deprecated fields that are set, one entry a use. */
  readonly deprecatedFields: readonly string[];
  /** How many unknown fields were let pass. */
  readonly unknownFieldCount: number;
}

/** A file larger than this is no configuration. */
const maxBytes = 256 * 1024 * 1024;
const configYamlName = "<config-yaml>";

export function loadBootstrap(options: LoadOptions): LoadResult {
  const inputs: MessageSource[] = [];
  if (options.path !== undefined) inputs.push({ kind: "file", path: options.path });
  if (options.configYaml !== undefined) inputs.push({ kind: "text", name: configYamlName, text: options.configYaml, format: "yaml" });
  const result = load(inputs, "envoy.config.bootstrap.v3.Bootstrap", options.allowUnknownStatic === true ? "warn" : "reject", true);
  return { ...result, bootstrap: result.message as Bootstrap | undefined };
}

/** A message of any type with everything at its default. */
export function emptyMessage<N extends keyof Messages>(typeName: N): Messages[N] {
  const desc = envoySchema().message(typeName);
  if (desc === undefined) throw new Error(`no message ${typeName} in the API`);
  return createMessage(desc) as unknown as Messages[N];
}

export type SourceFormat = "yaml" | "json" | "text" | "binary";
export type MessageSource =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "text"; readonly name: string; readonly text: string; readonly format: "yaml" | "json" | "text" }
  | { readonly kind: "bytes"; readonly name: string; readonly bytes: Uint8Array };

export interface MessageResult<M = LoadedMessage> extends Omit<LoadResult, "bootstrap"> {
  readonly message: M | undefined;
}

/**
 * Loads one message of any type: a resource file, a dynamic resource (`typeName` "google.protobuf.Any" unpacks it).
 * `unknownFields`: "reject" (error), "warn" or "ignore"; all are counted.
 */
export function loadMessage<M extends { $typeName: string } = LoadedMessage>(
  source: MessageSource,
  typeName: string,
  options: { readonly unknownFields?: UnknownFieldPolicy } = {},
): MessageResult<M> {
  return load([source], typeName, options.unknownFields ?? "reject", false) as MessageResult<M>;
}

function load(inputs: readonly MessageSource[], typeName: string, unknownFields: UnknownFieldPolicy, bootstrap: boolean): MessageResult {
  const origins = new Origins();
  const run = new LoadRun(envoySchema(), origins, unknownFields);
  const sources = new Map<string, SourceText>();
  let message: LoadedMessage | undefined;
  let unreadable = inputs.length === 0;
  if (inputs.length === 0) run.add("OR1003", "no configuration was given", undefined, "use -c FILE or --config-yaml TEXT");
  for (const input of inputs) {
    const read = readSource(run, sources, input, typeName);
    if (read === undefined) unreadable = true;
    else message = message === undefined ? read : mergeMessages(run.schema, origins, message, read);
  }
  if (unreadable) message = undefined;
  const deprecatedFields: string[] = [];
  if (message !== undefined) checkRules(run, message, deprecatedFields, bootstrap && allowsDeprecated(message));
  return {
    message,
    findings: sortFindings(run.findings, [...sources.keys()]),
    failed: run.failed,
    locate: (at, field) => origins.locate(at, field),
    isBroken: (at, field) => run.isBroken(at, field),
    extensionMessages: run.extensionMessages,
    deprecatedFields,
    unknownFieldCount: run.unknownFieldCount,
  };
}

function formatOf(path: string): SourceFormat {
  switch (extname(path).toLowerCase()) {
    case ".yaml":
    case ".yml":
      return "yaml";
    case ".pb":
      return "binary";
    case ".pb_text":
      return "text";
    default:
      return "json";
  }
}

function readSource(run: LoadRun, sources: Map<string, SourceText>, input: MessageSource, typeName: string): LoadedMessage | undefined {
  const name = input.kind === "file" ? input.path : input.name;
  const format = input.kind === "file" ? formatOf(input.path) : input.kind === "bytes" ? "binary" : input.format;
  let bytes: Uint8Array | undefined;
  if (input.kind === "file") {
    try {
      bytes = readFileSync(input.path);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      const why =
        code === "ENOENT"
          ? "does not exist"
          : code === "EACCES"
            ? "may not be read (permission denied)"
            : code === "EISDIR"
              ? "is a directory"
              : `cannot be read: ${code}`;
      run.add("OR1003", `unable to read file: ${input.path} ${why}`, { file: input.path, line: 0, column: 0, endColumn: undefined, path: "" });
      return undefined;
    }
    if (bytes.length > maxBytes) {
      run.add("OR1003", `unable to read file: ${input.path} is larger than ${maxBytes} bytes`, {
        file: input.path,
        line: 0,
        column: 0,
        endColumn: undefined,
        path: "",
      });
      return undefined;
    }
  } else if (input.kind === "bytes") bytes = input.bytes;
  const desc = run.schema.message(typeName);
  if (desc === undefined) throw new Error(`no message ${typeName} in the API`);

  if (format === "binary") {
    const source = new SourceText(name, "");
    const place: Place = { source, node: undefined, parent: undefined, field: undefined, key: undefined };
    return readBinary(run, desc, bytes ?? new Uint8Array(0), place);
  }
  const text = input.kind === "text" ? input.text : new TextDecoder().decode(bytes);
  const source = new SourceText(name, text);
  sources.set(name, source);
  const node = parseText(run, source, format);
  if (node === undefined) return undefined;
  const reader = new MessageReader(run, source, format === "text");
  return desc.special === "any" ? reader.rootAny(node, undefined) : reader.root(node, desc);
}

function parseText(run: LoadRun, source: SourceText, format: SourceFormat): SyntaxNode | undefined {
  const { text } = source;
  const at = (offset: number) => originAt(source, offset, offset + 1, "");
  if (text.trim() === "" && format !== "text") {
    run.add("OR1002", "the configuration is empty", at(0), "an empty bootstrap is written {}");
    return undefined;
  }
  if (format === "text") {
    const parsed = parseTextFormat(text);
    if ("root" in parsed) return parsed.root;
    run.add("OR1001", `text format: ${parsed.problem.text}`, at(parsed.problem.offset));
    return undefined;
  }
  // JSON is YAML too, and what is strictly JSON is read several times faster as such.
  if (format === "json" || /^\s*[{[]/.test(text)) {
    const parsed = parseJson(text, format === "yaml");
    if ("root" in parsed) return parsed.root;
    if (format === "json") {
      run.add(
        "OR1001",
        `JSON syntax: ${parsed.problem.text}`,
        at(parsed.problem.offset),
        /^\s*[\w-]+:/.test(text) ? "a YAML file needs a name that ends in .yaml" : undefined,
      );
      return undefined;
    }
  }
  const plain = parsePlainYaml(text);
  if (plain !== undefined && !(plain.kind === "scalar" && plain.type === "null")) return plain;
  const { root, problems } = parseYaml(text);
  for (const problem of problems)
    run.add(
      problem.severity === "error" ? "OR1001" : "OR1113",
      `${problem.severity === "error" ? "YAML syntax: " : ""}${problem.text}`,
      at(problem.offset),
      problem.hint,
      problem.severity,
    );
  if (root === undefined || (root.kind === "scalar" && root.type === "null")) {
    if (!problems.some((p) => p.severity === "error"))
      run.add("OR1002", "the configuration holds nothing but comments", at(0), "an empty bootstrap is written {}");
    return undefined;
  }
  return root;
}

/** layered_runtime may allow fields that are refused by default. */
function allowsDeprecated(bootstrap: LoadedMessage): boolean {
  const runtime = bootstrap["layeredRuntime"] as { layers?: { layerSpecifier?: { case?: string; value?: unknown } }[] } | undefined;
  let allowed = false;
  for (const layer of runtime?.layers ?? []) {
    if (layer.layerSpecifier?.case !== "staticLayer") continue;
    const value = lookup(layer.layerSpecifier.value, "envoy.features.enable_all_deprecated_features");
    if (value !== undefined) allowed = value === true || value === "true";
  }
  return allowed;
}

/** A runtime key in a static layer, dotted or nested. */
function lookup(tree: unknown, key: string): unknown {
  if (typeof tree !== "object" || tree === null) return undefined;
  for (const [name, value] of Object.entries(tree)) {
    if (name === key) return value;
    if (key.startsWith(`${name}.`)) {
      const found = lookup(value, key.slice(name.length + 1));
      if (found !== undefined) return found;
    }
  }
  return undefined;
}

/** In the order of the sources and of lines; errors and warnings mixed, as they stand. What has no place comes first. */
export function sortFindings(findings: readonly Finding[], files: readonly string[]): Finding[] {
  const order = new Map(files.map((file, index) => [file, index]));
  const rank = (f: Finding): number => (f.origin === undefined ? -1 : (order.get(f.origin.file) ?? files.length));
  return [...findings].sort((a, b) => rank(a) - rank(b) || (a.origin?.line ?? 0) - (b.origin?.line ?? 0) || (a.origin?.column ?? 0) - (b.origin?.column ?? 0));
}
