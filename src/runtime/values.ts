/**
 * Runtime values as Envoy reads them: a static layer's from the configuration, those of files and of /runtime_modify as small YAML texts.
 * What /runtime prints is the text as it was given; what it means is worked out once, when it is read.
 */
import type { JsonObject, JsonValue } from "../config/message.ts";
import { parsePlainYaml } from "../config/plain-yaml.ts";
import type { MapNode, SyntaxNode } from "../config/syntax.ts";
import { parseYaml } from "../config/yaml-syntax.ts";
import type { Fraction, RuntimeValue } from "./runtime.ts";

export interface RuntimeEntry {
  /** As /runtime prints it. */
  readonly raw: string;
  readonly value: RuntimeValue;
}

const denominators: { readonly [name: string]: number } = { HUNDRED: 100, TEN_THOUSAND: 10_000, MILLION: 1_000_000 };

/** The value of a file or of /runtime_modify. Throws an Error that says why it is no YAML. */
export function entryOfText(text: string): RuntimeEntry {
  let root = parsePlainYaml(text);
  if (root === undefined) {
    const parsed = parseYaml(text);
    const problem = parsed.problems.find(({ severity }) => severity === "error");
    if (problem !== undefined) throw new Error(`no YAML at character ${problem.offset + 1}: ${problem.text}`);
    root = parsed.root;
  }
  return { raw: text, value: meaningOf(root, text) };
}

function meaningOf(root: SyntaxNode | undefined, text: string): RuntimeValue {
  if (root?.kind === "map") return fractionOfNode(root) ?? text;
  if (root?.kind === "scalar" && root.type === "bool") return root.text === "true";
  if (root?.kind === "scalar" && root.type === "int") return Number(root.text);
  // A quoted number is a text: its quotes are part of what was given.
  return numberOf(text) ?? text;
}

function fractionOfNode(map: MapNode): Fraction | undefined {
  const fields: JsonObject = {};
  for (const { key, value } of map.entries) fields[key] = value.kind !== "scalar" ? null : value.type === "int" ? Number(value.text) : value.text;
  return fractionOf(fields);
}

/** A decimal or hexadecimal number with white space around it, as Envoy's SimpleAtod takes it. */
export function numberOf(text: string): number | undefined {
  const trimmed = text.trim();
  if (/^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$/.test(trimmed)) return Number(trimmed);
  const hex = /^([-+]?)(0[xX][0-9a-fA-F]+)$/.exec(trimmed);
  return hex === null ? undefined : Number(hex[2]) * (hex[1] === "-" ? -1 : 1);
}

/** A FractionalPercent without any other field. An absent denominator is 100, an absent numerator 0. */
function fractionOf(fields: JsonObject): Fraction | undefined {
  let numerator = 0;
  let denominator = 100;
  for (const [name, value] of Object.entries(fields)) {
    const known = name === "denominator" && typeof value === "string" ? denominators[value] : undefined;
    if (name === "numerator" && typeof value === "number" && value >= 0) numerator = Math.trunc(value);
    else if (known !== undefined) denominator = known;
    else return undefined;
  }
  return { numerator, denominator };
}

/** Keys of a static layer: nested maps are joined by dots. `invalid` is told of keys whose values mean nothing there. */
export function flatten(struct: JsonObject, invalid: (key: string) => void = () => {}): Map<string, RuntimeEntry> {
  const found = new Map<string, RuntimeEntry>();
  const walk = (key: string, value: JsonValue): void => {
    if (value === null || Array.isArray(value)) invalid(key);
    else if (typeof value !== "object") found.set(key, scalar(value));
    else if (Object.keys(value).length === 0 || "numerator" in value || "denominator" in value) {
      const raw = JSON.stringify(value);
      found.set(key, { raw, value: fractionOf(value) ?? raw });
    } else for (const [name, inner] of Object.entries(value)) walk(`${key}.${name}`, inner);
  };
  for (const [name, value] of Object.entries(struct)) walk(name, value);
  return found;
}

function scalar(value: string | number | boolean): RuntimeEntry {
  if (typeof value === "string") return { raw: value, value: numberOf(value) ?? value };
  return { raw: typeof value === "number" ? shortNumber(value) : String(value), value };
}

/** Six significant digits, as C's %g prints a number. */
export function shortNumber(value: number): string {
  const rounded = Number(value.toPrecision(6));
  const exponent = rounded === 0 ? 0 : Math.floor(Math.log10(Math.abs(rounded)));
  if (exponent >= -4 && exponent < 6) return String(rounded);
  const [digits, power] = rounded.toExponential().split("e");
  return `${digits}e${power[0]}${power.slice(1).padStart(2, "0")}`;
}
