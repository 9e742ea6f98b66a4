/** What requests of HTTP and JSON stand for which calls, and how messages are translated: compiled from a descriptor set. */
import { decodeMessage } from "../../../config/binary.ts";
import { encodeMessageAs } from "../../../config/binary-encode.ts";
import { type JsonOptions, toJsonAs } from "../../../config/json.ts";
import type { FieldDesc, MessageDesc } from "../../../config/schema/descriptor.ts";
import { Schema } from "../../../config/schema/registry.ts";
import type { GrpcJsonTranscoder } from "../../../config/schema/types/envoy.extensions.filters.http.grpc_json_transcoder.v3.d.ts";
import { createMessage, getField, type LoadedMessage, setField } from "../../../config/shape.ts";
import { bindText, fromJson, JsonError, type JsonReadOptions, resolvePath } from "./from-json.ts";
import { matchTemplate, type PathTemplate, parseTemplate, specificity, type Unescape } from "./path-template.ts";
import { type MethodDescriptor, readServices } from "./services.ts";

export const httpBodyType = "google.api.HttpBody";

interface Binding {
  readonly verb: string;
  readonly template: PathTemplate;
  readonly method: MethodDescriptor;
  readonly input: MessageDesc;
  readonly output: MessageDesc;
  readonly body: "" | "*" | FieldDesc;
  readonly responseBody: FieldDesc | undefined;
}

/** A request that stands for a call. */
export interface TranscodedCall {
  readonly method: MethodDescriptor;
  readonly readsBody: boolean;
  readonly outputsHttpBody: boolean;
  /** The messages of the request, from its body. Throws JsonError. */
  messages(body: Buffer, contentType: string): Buffer[];
  /** A message of the answer as JSON text, or as it is where it is an HttpBody. */
  answer(message: Buffer): { readonly text: Buffer; readonly contentType: string };
}

export type Lookup =
  | { readonly kind: "call"; readonly call: TranscodedCall }
  | { readonly kind: "unknown_method" }
  | { readonly kind: "unknown_query"; readonly text: string };

/** The configuration is wrong. */
export class TranscoderError extends Error {}

const unescapes: readonly Unescape[] = ["except_reserved", "except_slash", "all"];

export class Transcoder {
  readonly #bindings: Binding[] = [];
  readonly #json: JsonOptions;
  readonly #read: JsonReadOptions;
  readonly #space: number | undefined;
  readonly #unescape: Unescape;
  readonly #ignoredQuery: ReadonlySet<string>;
  readonly #ignoreUnknownQuery: boolean;
  readonly #plus: boolean;

  constructor(descriptors: Uint8Array, config: GrpcJsonTranscoder) {
    const print = config.printOptions;
    this.#json = {
      protoNames: print?.preserveProtoFieldNames ?? false,
      redact: false,
      emitDefaults: print?.alwaysPrintPrimitiveFields ?? false,
      enumNumbers: print?.alwaysPrintEnumsAsInts ?? false,
    };
    this.#space = print?.addWhitespace === true ? 1 : undefined;
    this.#read = { caseInsensitiveEnums: config.caseInsensitiveEnumParsing, ignoreUnknown: true };
    this.#unescape = unescapes[config.urlUnescapeSpec];
    this.#ignoredQuery = new Set(config.ignoredQueryParameters);
    this.#ignoreUnknownQuery = config.ignoreUnknownQueryParameters;
    this.#plus = config.queryParamUnescapePlus;
    const services = readServices(descriptors);
    const schema = new Schema(descriptors);
    for (const name of config.services) {
      const methods = services.get(name);
      if (methods === undefined) throw new TranscoderError(`transcoding_filter: Could not find '${name}' in the proto descriptor`);
      for (const method of methods) this.#add(method, schema, config.autoMapping);
    }
    this.#bindings.sort((a, b) => compareSpecificity(a.template, b.template));
  }

  #add(method: MethodDescriptor, schema: Schema, autoMapping: boolean): void {
    const input = schema.message(method.input);
    const output = schema.message(method.output);
    if (input === undefined || output === undefined)
      throw new TranscoderError(`transcoding_filter: the proto descriptor lacks a type of ${method.service}.${method.name}`);
    const rules =
      method.rules.length > 0 || !autoMapping ? method.rules : [{ verb: "POST", path: `/${method.service}/${method.name}`, body: "*", responseBody: "" }];
    for (const rule of rules) {
      const template = parseTemplate(rule.path);
      const body = rule.body === "" || rule.body === "*" ? rule.body : input.field(rule.body);
      const responseBody = rule.responseBody === "" ? undefined : output.field(rule.responseBody);
      if (template === undefined || body === undefined || (rule.responseBody !== "" && responseBody === undefined))
        throw new TranscoderError(`transcoding_filter: Cannot register '${method.service}.${method.name}' to path matcher`);
      for (const { field } of template.variables)
        if (resolvePath(input, field) === undefined)
          throw new TranscoderError(`transcoding_filter: Could not find field "${field.join(".")}" in the type "${input.typeName}".`);
      this.#bindings.push({ verb: rule.verb, template, method, input, output, body, responseBody });
    }
  }

  find(verb: string, pathAndQuery: string): Lookup {
    const question = pathAndQuery.indexOf("?");
    const path = question < 0 ? pathAndQuery : pathAndQuery.slice(0, question);
    for (const binding of this.#bindings) {
      if (binding.verb !== verb && binding.verb !== "*") continue;
      const values = matchTemplate(binding.template, path, this.#unescape);
      if (values === undefined) continue;
      // The query comes behind the path: where both name a field, the query counts.
      const texts = values.map(([field, value]): [FieldDesc[], string] => [resolvePath(binding.input, field) as FieldDesc[], value]);
      for (const [name, value] of queryOf(question < 0 ? "" : pathAndQuery.slice(question + 1), this.#plus)) {
        const fields = resolvePath(binding.input, name.split("."));
        if (fields !== undefined) texts.push([fields, value]);
        else if (!this.#ignoredQuery.has(name) && !this.#ignoreUnknownQuery) {
          const known = name.split(".").findIndex((_part, index, parts) => resolvePath(binding.input, parts.slice(0, index + 1)) === undefined);
          return { kind: "unknown_query", text: `Could not find field "${name.split(".")[known] ?? name}" in the type "${binding.input.typeName}".` };
        }
      }
      return { kind: "call", call: this.#call(binding, texts) };
    }
    return { kind: "unknown_method" };
  }

  #call(binding: Binding, texts: readonly [FieldDesc[], string][]): TranscodedCall {
    const { method, input, output, body, responseBody } = binding;
    const bind = (message: LoadedMessage): Buffer => {
      for (const [fields, text] of texts) bindText(message, fields, text, this.#read);
      return encodeMessageAs(message, input);
    };
    const one = (json: unknown): Buffer => {
      if (body === "" || json === undefined) return bind(createMessage(input));
      if (body === "*") return bind(fromJson(json, input, this.#read));
      return bind(fromJson({ [body.name]: json }, input, this.#read));
    };
    const bodyDesc = body === "*" ? input : body === "" ? undefined : body.type === "message" ? body.message : undefined;
    const printed = responseBody?.type === "message" && responseBody.label === "one" ? responseBody.message : output;
    return {
      method,
      readsBody: body !== "",
      outputsHttpBody: printed.typeName === httpBodyType,
      messages: (data, contentType) => {
        if (body !== "" && bodyDesc?.typeName === httpBodyType) {
          const raw = createMessage(bodyDesc);
          const put = (name: string, value: unknown): void => {
            const field = bodyDesc.field(name);
            if (field !== undefined) setField(raw, field, value);
          };
          put("content_type", contentType);
          put("data", new Uint8Array(data));
          if (body === "*") return [bind(raw)];
          const message = createMessage(input);
          setField(message, body as FieldDesc, raw);
          return [bind(message)];
        }
        const text = data.toString("utf8").trim();
        if (body === "" || text === "") return method.clientStreaming && body !== "" ? [] : [one(undefined)];
        const json = parseJson(text);
        return method.clientStreaming ? (Array.isArray(json) ? json.map(one) : [one(json)]) : [one(json)];
      },
      answer: (data) => {
        const message = decodeMessage(output, data, undefined);
        if (printed.typeName === httpBodyType) {
          const held = (responseBody === undefined ? message : getField(message, responseBody)) as LoadedMessage | undefined;
          const at = (name: string): unknown => {
            const field = printed.field(name);
            return held === undefined || field === undefined ? undefined : getField(held, field);
          };
          return {
            text: Buffer.from((at("data") as Uint8Array | undefined) ?? []),
            contentType: (at("content_type") as string | undefined) ?? "application/json",
          };
        }
        const json = toJsonAs(message, output, this.#json);
        const part = responseBody === undefined ? json : (json[this.#json.protoNames ? responseBody.name : responseBody.jsonName] ?? null);
        return { text: Buffer.from(JSON.stringify(part, undefined, this.#space)), contentType: "application/json" };
      },
    };
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new JsonError(error instanceof Error ? error.message : "not JSON");
  }
}

function compareSpecificity(a: PathTemplate, b: PathTemplate): number {
  const left = specificity(a);
  const right = specificity(b);
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (right[i] ?? -1) - (left[i] ?? -1);
    if (difference !== 0) return difference;
  }
  // A verb behind is more than none.
  return b.verb.length - a.verb.length;
}

function* queryOf(text: string, plus: boolean): Generator<[name: string, value: string]> {
  for (const part of text.split("&")) {
    if (part === "") continue;
    const equals = part.indexOf("=");
    const decode = (value: string): string => {
      const spaced = plus ? value.replaceAll("+", " ") : value;
      return spaced.replace(/(?:%[0-9A-Fa-f]{2})+/g, (escapes) => Buffer.from(escapes.replaceAll("%", ""), "hex").toString("utf8"));
    };
    yield [decode(equals < 0 ? part : part.slice(0, equals)), equals < 0 ? "" : decode(part.slice(equals + 1))];
  }
}
