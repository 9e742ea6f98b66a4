/** /config_dump: the configuration in force, as envoy.admin.v3.ConfigDump. Secrets are redacted. */
import { trimToMask } from "../../config/field-mask.ts";
import { toJson } from "../../config/json.ts";
import { envoySchema } from "../../config/schema/registry.ts";
import { compileRegex, type SafeRegex } from "../../regex/regex.ts";
import { type ConfigSection, configSections } from "../config-sections.ts";
import { jsonPieces, LazyList } from "../json-pieces.ts";
import { type AdminEndpoint, type AdminResponse, applicationJson, json } from "../request.ts";

const options = { protoNames: true, redact: true } as const;

export const configDump: AdminEndpoint = {
  path: "/config_dump",
  help: "dump current Envoy configs",
  params: [
    { kind: "string", id: "resource", help: "The resource to dump" },
    {
      kind: "string",
      id: "mask",
      help: "The mask to apply. When both resource and mask are specified, the mask is applied to every element in the desired repeated field so that only a subset of fields are returned. The mask is parsed as a Protobuf::FieldMask",
    },
    {
      kind: "string",
      id: "name_regex",
      help: "Dump only the currently loaded configurations whose names match the specified regex. Can be used with both resource and mask query parameters.",
    },
    { kind: "boolean", id: "include_eds", help: "Dump currently loaded configuration including EDS. See the response definition for more information" },
  ],
  handle: ({ server, params }) => {
    const nameRegex = params.first("name_regex");
    let names: SafeRegex | undefined;
    if (nameRegex !== undefined && nameRegex !== "") {
      const compiled = compileRegex(nameRegex);
      if (!compiled.ok) return failed(400, `INVALID_ARGUMENT: Error while parsing name_regex from ${nameRegex}: ${compiled.error}\n`);
      names = compiled.regex;
    }
    const sections = configSections(server, params.has("include_eds"), (name) => names === undefined || names.fullMatch(Buffer.from(name).toString("latin1")));
    const resource = params.first("resource") ?? "";
    const mask = params.first("mask") ?? "";
    if (resource !== "") return dumpResource(sections, resource, mask);
    return mask === "" ? dumpAll(sections) : dumpMasked(sections, mask);
  },
};

function failed(status: number, message: string): AdminResponse {
  return { status, contentType: "text/plain", body: message };
}

function anyJson(message: { readonly $typeName: string }): object {
  return { "@type": `type.googleapis.com/${message.$typeName}`, ...toJson(message, options) };
}

function dumpAll(sections: readonly ConfigSection[]): AdminResponse {
  const configs = new LazyList(
    sections.map((section) => () => {
      const items = section.items.filter(({ messages }) => messages.length > 0);
      // Each resource is made into text on its own: a configuration can be large.
      const lists = items.map(({ field, messages }) => [field, new LazyList(messages.map((message) => () => toJson(message, options)))] as const);
      const empty = Object.fromEntries(items.map(({ property }) => [property, []]));
      return { ...anyJson({ ...section.message, ...empty }), ...Object.fromEntries(lists) };
    }),
  );
  return { status: 200, contentType: applicationJson, body: jsonPieces({ configs }) };
}

function dumpMasked(sections: readonly ConfigSection[], mask: string): AdminResponse {
  const configs: object[] = [];
  for (const section of sections) {
    const trimmed = trimToMask(section.message, mask);
    if (trimmed !== undefined) configs.push(anyJson(trimmed));
  }
  if (configs.length === 0) return failed(400, `FieldMask ${mask} could not be successfully applied to any configs.\n`);
  return json({ configs });
}

/** The elements of one repeated field of one section. */
function dumpResource(sections: readonly ConfigSection[], resource: string, mask: string): AdminResponse {
  for (const section of sections) {
    const field = envoySchema()
      .message(section.message.$typeName)
      ?.fields.find((f) => f.name === resource);
    if (field === undefined) continue;
    if (field.label !== "list") return failed(400, `${resource} is not a repeated field. Use ?mask=${resource} to get only this field\n`);
    const found = section.items.find((items) => items.field === resource)?.messages ?? [];
    const configs: (() => object)[] = [];
    for (const message of found) {
      if (mask === "") {
        configs.push(() => anyJson(message));
        continue;
      }
      const trimmed = trimToMask(message, mask);
      if (trimmed === undefined) return failed(400, `FieldMask ${maskText(mask)} could not be successfully used.\n`);
      configs.push(() => anyJson(trimmed));
    }
    return { status: 200, contentType: applicationJson, body: jsonPieces(configs.length === 0 ? {} : { configs: new LazyList(configs) }) };
  }
  return failed(404, `${resource} not found in config dump\n`);
}

/** A google.protobuf.FieldMask in text format. */
function maskText(mask: string): string {
  return mask
    .split(",")
    .map((path) => `paths: ${JSON.stringify(path)}\n`)
    .join("");
}
