/**
 * Compiles the access log language: text with %OPERATOR(argument):length% in it, and the JSON formats made of such text.
 * Syntax, messages and results are those of Envoy 1.40. Operators are rows of the tables in operators/; extensions add parsers.
 *
 * All output is a string of bytes (latin1 code units), as header values are: text of the configuration is turned into UTF-8 bytes once,
 * here. So a result can be put into a header, a body or a log file without another look at it.
 */

import type { JsonObject, JsonValue } from "../config/message.ts";
import type { SubstitutionFormatString } from "../config/schema/types/envoy.config.core.v3.d.ts";
import type { CompileContext, FormatterCommandParser, Honours } from "../extensions/extension.ts";
import type { FormatContext, Formatter, Operator } from "./formatter.ts";
import { compileJsonFormat } from "./json-format.ts";
import { coalesce } from "./operators/coalesce.ts";
import { downstreamOperators } from "./operators/downstream.ts";
import { headerOperators } from "./operators/headers.ts";
import { metadataOperators } from "./operators/metadata.ts";
import { FormatError, type OperatorRow, type OperatorScope, toBytes } from "./operators/operator.ts";
import { streamOperators } from "./operators/stream.ts";
import { upstreamOperators } from "./operators/upstream.ts";

export const honours: Honours = {
  "envoy.config.core.v3.SubstitutionFormatString": "*",
  "envoy.config.core.v3.JsonFormatOptions": "*",
  // Only the parts a format can come from; a watched directory would have to be watched.
  "envoy.config.core.v3.DataSource": ["filename", "inline_bytes", "inline_string", "environment_variable"],
};

/** Envoy's default access log line. */
export const defaultFormat =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ' +
  '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n';

const operators = new Map<string, OperatorRow>(
  [streamOperators, headerOperators, downstreamOperators, upstreamOperators, metadataOperators, { COALESCE: coalesce }].flatMap((table) =>
    Object.entries(table),
  ),
);

/** Names of all operators that need no extension, sorted. */
export function operatorNames(): string[] {
  return [...operators.keys()].sort();
}

export interface FormatOptions {
  /** Absent values print nothing instead of `-`. */
  readonly omitEmpty?: boolean;
  /** Where findings are reported: the message and its proto field. Without it a bad format throws FormatError. */
  readonly at?: object;
  readonly field?: string;
  /** Asked first, in order. */
  readonly parsers?: readonly FormatterCommandParser[];
}

/** A format, cut up: literal text (bytes) and operators. */
export type FormatPart = string | Operator;

// The argument cannot contain a closing parenthesis; the length is decimal.
const command = /%([A-Z0-9_]+)(?:\(([^)]*)\))?(?::([0-9]{1,18}))?%/y;

function makeOperator(
  name: string,
  argument: string,
  maxLength: number | undefined,
  scope: OperatorScope,
  parsers: readonly FormatterCommandParser[],
): Operator | undefined {
  for (const parse of parsers) {
    const operator = parse(name, argument, maxLength);
    if (operator !== undefined) return operator;
  }
  const row = operators.get(name);
  if (row === undefined) return undefined;
  if (row.parameters === "none" && (argument !== "" || maxLength !== undefined)) throw new FormatError(`${name} does not take any parameters or length`);
  if (row.parameters === "required" && argument === "") throw new FormatError(`${name} requires parameters`);
  if (maxLength !== undefined && row.length !== true) throw new FormatError(`${name} does not allow length to be specified.`);
  return row.make(argument, maxLength, scope);
}

/** Cuts a format up. Throws FormatError. Neighbouring literals are joined. */
export function parseFormat(text: string, context: CompileContext | undefined, parsers: readonly FormatterCommandParser[] = []): FormatPart[] {
  const scope: OperatorScope = {
    context,
    compile(name, argument, maxLength) {
      const operator = makeOperator(name, argument, maxLength, scope, parsers);
      if (operator === undefined) throw new FormatError(`unknown command: '${name}'`);
      return operator;
    },
  };
  const parts: FormatPart[] = [];
  let literal = "";
  let at = 0;
  while (at < text.length) {
    const percent = text.indexOf("%", at);
    if (percent < 0) break;
    literal += text.slice(at, percent);
    if (text[percent + 1] === "%") {
      literal += "%";
      at = percent + 2;
      continue;
    }
    command.lastIndex = percent;
    const match = command.exec(text);
    if (match === null) throw new FormatError(`Incorrect configuration: ${text}. Couldn't find valid command at position ${percent}`);
    if (literal !== "") parts.push(toBytes(literal));
    literal = "";
    const operator = makeOperator(match[1], match[2] ?? "", match[3] === undefined ? undefined : Number(match[3]), scope, parsers);
    if (operator === undefined) throw new FormatError(`Not supported field in StreamInfo: ${match[1]}`);
    parts.push(operator);
    at = command.lastIndex;
  }
  literal += text.slice(at);
  if (literal !== "") parts.push(toBytes(literal));
  return parts;
}

/** Literal and operator in turn, as two arrays: the shape that is fastest to join. */
class TextFormatter implements Formatter {
  /** literals[i] stands before operators[i]; the last one behind all. */
  readonly #literals: readonly string[];
  readonly #operators: readonly Operator[];
  readonly #absent: string;

  constructor(parts: readonly FormatPart[], absent: string) {
    const literals: string[] = [];
    const list: Operator[] = [];
    let pending = "";
    for (const part of parts) {
      if (typeof part === "string") pending += part;
      else {
        literals.push(pending);
        list.push(part);
        pending = "";
      }
    }
    literals.push(pending);
    this.#literals = literals;
    this.#operators = list;
    this.#absent = absent;
  }

  format(context: FormatContext): string {
    const literals = this.#literals;
    const list = this.#operators;
    const count = list.length;
    let out = literals[0];
    for (let i = 0; i < count; i++) {
      const value = list[i].text(context);
      out += (value === undefined ? this.#absent : value) + literals[i + 1];
    }
    return out;
  }
}

const nothing: Formatter = { format: () => "" };

/** Runs a compilation; a FormatError becomes a finding where one can be placed. */
function reporting(context: CompileContext | undefined, options: FormatOptions, compile: () => Formatter): Formatter {
  try {
    return compile();
  } catch (error) {
    if (!(error instanceof FormatError) || context === undefined || options.at === undefined) throw error;
    context.report(options.at, options.field, { code: "OR2101", text: error.message });
    return nothing;
  }
}

/** Compiles a text format. Errors are reported at `options.at`, or thrown as FormatError without it. */
export function compileFormat(text: string, context: CompileContext | undefined, options: FormatOptions = {}): Formatter {
  return reporting(context, options, () => new TextFormatter(parseFormat(text, context, options.parsers), options.omitEmpty === true ? "" : "-"));
}

/** Compiles a JSON format: one line that ends in a newline. */
export function compileJson(
  format: JsonObject,
  context: CompileContext | undefined,
  options: FormatOptions & { readonly sortProperties?: boolean; readonly keepTypes?: boolean } = {},
): Formatter {
  return reporting(context, options, () =>
    compileJsonFormat(format, (text) => parseFormat(text, context, options.parsers), {
      omitEmpty: options.omitEmpty === true,
      sortProperties: options.sortProperties === true,
    }),
  );
}

/** Text of a DataSource; undefined (and a finding) where it cannot be had. */
function readSource(source: { $typeName: string; specifier: { case: string | undefined; value?: unknown } }, context: CompileContext): string | undefined {
  const { case: kind, value } = source.specifier;
  switch (kind) {
    case "inlineString":
      return String(value);
    case "inlineBytes":
      return Buffer.from(value as Uint8Array).toString("utf8");
    case "filename":
      return context.readFile(String(value), source, "filename")?.toString("utf8");
    case "environmentVariable": {
      const found = process.env[String(value)];
      if (found === undefined) context.report(source, "environment_variable", { code: "OR3102", text: `Environment variable doesn't exist: ${String(value)}` });
      return found;
    }
    default:
      return "";
  }
}

/** The command parsers of `formatters: [...]`. */
export function compileFormatterExtensions(message: SubstitutionFormatString, context: CompileContext): FormatterCommandParser[] {
  const parsers: FormatterCommandParser[] = [];
  for (const extension of message.formatters) {
    if (extension.typedConfig === undefined) {
      context.report(message, "formatters", { code: "OR4102", text: `Formatter not found: ${extension.name}` });
      continue;
    }
    const found = context.extension("envoy.formatter", extension.typedConfig, extension, "typed_config", extension.name);
    if (found?.formatter !== undefined) parsers.push(found.formatter.compile(extension.typedConfig, context));
  }
  return parsers;
}

/** What a message formats to, and the content type it asks for in HTTP answers. */
export interface SubstitutionFormatter extends Formatter {
  readonly contentType: string;
}

export function compileSubstitutionFormatString(message: SubstitutionFormatString, context: CompileContext): SubstitutionFormatter {
  const parsers = compileFormatterExtensions(message, context);
  const { format } = message;
  const contentType = message.contentType !== "" ? message.contentType : format.case === "jsonFormat" ? "application/json" : "text/plain";
  const options: FormatOptions = { omitEmpty: message.omitEmptyValues, at: message, parsers };
  let formatter: Formatter = nothing;
  if (format.case === "textFormat") formatter = compileFormat(format.value, context, { ...options, field: "text_format" });
  else if (format.case === "textFormatSource") {
    const text = readSource(format.value, context);
    if (text !== undefined) formatter = compileFormat(text, context, { ...options, field: "text_format_source" });
  } else if (format.case === "jsonFormat") {
    formatter = compileJson(format.value, context, { ...options, field: "json_format", sortProperties: message.jsonFormatOptions?.sortProperties === true });
  }
  return { contentType, format: (context) => formatter.format(context) };
}

export type { JsonValue };
