/**
 * The rules that the API's own files put on fields (protoc-gen-validate, `validate.rules`), and what else its annotations say of a value:
 * deprecated, refused by default. All of a tree is checked, contents of Anys too; each broken rule is a finding.
 */
import { isIP, isIPv4, isIPv6 } from "node:net";
import type { Finding } from "./finding.ts";
import { segment } from "./origins.ts";
import { type LoadRun, quote } from "./reader.ts";
import type { FieldDesc, FieldRules, MessageDesc, OneofDesc } from "./schema/descriptor.ts";
import { getField, type LoadedMessage } from "./shape.ts";

/** Checks a tree. `deprecatedFields` receives the path of each use of a deprecated field. */
export function checkRules(run: LoadRun, root: LoadedMessage, deprecatedFields: string[], allowDisallowed: boolean): void {
  const desc = run.schema.message(root.$typeName);
  if (desc !== undefined) new RuleChecker(run, deprecatedFields, allowDisallowed).message(root, desc, true);
}

/** What of a message's descriptor needs looking at, worked out once. */
interface Plan {
  readonly fields: readonly PlannedField[];
  readonly oneofs: readonly OneofDesc[];
}
interface PlannedField {
  readonly field: FieldDesc;
  readonly rules: FieldRules | undefined;
  readonly recurse: boolean;
  readonly duration: boolean;
}
const plans = new WeakMap<MessageDesc, Plan>();

function planOf(desc: MessageDesc): Plan {
  let plan = plans.get(desc);
  if (plan === undefined) {
    const fields: PlannedField[] = [];
    for (const field of desc.fields) {
      const special = field.type === "message" ? field.special : undefined;
      const recurse = field.type === "message" && (special === undefined || special === "any");
      const duration = special === "duration" && field.label === "one";
      if (recurse || duration || field.rules !== undefined || field.deprecated || field.disallowedByDefault || field.type === "enum")
        fields.push({ field, rules: field.rules, recurse, duration });
    }
    plans.set(desc, (plan = { fields, oneofs: desc.oneofs.filter((o) => o.required && o.fields.length > 0) }));
  }
  return plan;
}

/** The rules of one kind, read loosely: each rule checks what it finds. */
type Rules = { readonly [rule: string]: unknown };

class RuleChecker {
  readonly #run: LoadRun;
  readonly #deprecatedFields: string[];
  readonly #allowDisallowed: boolean;

  constructor(run: LoadRun, deprecatedFields: string[], allowDisallowed: boolean) {
    this.#run = run;
    this.#deprecatedFields = deprecatedFields;
    this.#allowDisallowed = allowDisallowed;
  }

  message(message: LoadedMessage, desc: MessageDesc, checked: boolean): void {
    const plan = planOf(desc);
    const rulesHold = checked && !desc.unchecked;
    for (const { field, rules, recurse, duration } of plan.fields) {
      const value = getField(message, field);
      if (value !== undefined && (field.deprecated || field.disallowedByDefault)) this.#deprecated(message, field);
      if (rulesHold && rules !== undefined) this.#field(message, field, rules, value);
      if (value === undefined) continue;
      if (duration) this.#notNegative(message, field, value as Moment);
      if (field.type === "enum") this.#deprecatedEnum(message, field, value);
      if (!recurse) continue;
      if (field.label === "one") this.#child(value, field, rulesHold && rules?.message?.skip !== true);
      else {
        const itemRules = ((field.label === "list" ? rules?.type.value?.["items"] : rules?.type.value?.["values"]) as FieldRules | undefined) ?? undefined;
        const childChecked = rulesHold && itemRules?.message?.skip !== true;
        for (const item of Object.values(value as object)) this.#child(item, field, childChecked);
      }
    }
    if (!rulesHold) return;
    for (const oneof of plan.oneofs) {
      const chosen = message[oneof.localName] as { case?: string } | undefined;
      if (chosen?.case !== undefined || oneof.fields.some((f) => this.#run.isBroken(message, f.name))) continue;
      const names = oneof.fields.filter((f) => !f.deprecated).map((f) => f.name);
      this.#report(
        "OR2011",
        message,
        undefined,
        `${oneof.name} is required in ${message.$typeName}: one of ${names.slice(0, 12).join(", ")}${names.length > 12 ? ", ..." : ""} must be set`,
      );
    }
  }

  /** Envoy has no use for a negative duration anywhere, also where no rule says so. */
  #notNegative(message: LoadedMessage, field: FieldDesc, value: Moment): void {
    if ((value.seconds < 0n || value.nanos < 0) && field.rules?.type.case !== "duration")
      this.#report("OR2002", message, field.name, `${quote(field.name)} is ${momentText(value)}, it must be at least 0s`);
  }

  #child(value: unknown, field: FieldDesc, checked: boolean): void {
    const child = value as LoadedMessage;
    const desc = field.special === "any" ? this.#run.schema.message(child.$typeName) : field.message;
    if (desc !== undefined && desc.special === undefined) this.message(child, desc, checked);
  }

  #deprecated(message: LoadedMessage, field: FieldDesc): void {
    const origin = this.#run.origins.locate(message, field.name);
    this.#deprecatedFields.push(origin?.path ?? field.name);
    if (field.disallowedByDefault && !this.#allowDisallowed) {
      this.#run.add(
        "OR2901",
        `${quote(field.name)} of ${message.$typeName} is deprecated and refused by default`,
        origin,
        "replace it, or allow it for now: runtime key envoy.features.enable_all_deprecated_features: true in a static layer",
      );
    } else this.#run.add("OR6001", `${quote(field.name)} of ${message.$typeName} is deprecated`, origin, undefined, "warning");
  }

  #deprecatedEnum(message: LoadedMessage, field: FieldDesc, value: unknown): void {
    for (const number of field.label === "one" ? [value] : Object.values(value as object)) {
      const known = field.enum.byNumber(number as number);
      if (known === undefined || !(known.deprecated || known.disallowedByDefault)) continue;
      const origin = this.#run.origins.locate(message, field.name);
      this.#deprecatedFields.push(origin?.path ?? field.name);
      if (known.disallowedByDefault && !this.#allowDisallowed)
        this.#run.add("OR2901", `the value ${known.name} of ${quote(field.name)} is deprecated and refused by default`, origin);
      else this.#run.add("OR6001", `the value ${known.name} of ${quote(field.name)} is deprecated`, origin, undefined, "warning");
    }
  }

  #report(code: Finding["code"], message: LoadedMessage, path: string | undefined, text: string, hint?: string): void {
    this.#run.add(code, text, this.#run.origins.locate(message, path), hint);
  }

  #field(message: LoadedMessage, field: FieldDesc, rules: FieldRules, value: unknown): void {
    const kind = rules.type.case;
    const detail = rules.type.value as Rules | undefined;
    if (this.#run.isBroken(message, field.name)) return;
    if (value === undefined && field.oneof !== undefined) return;
    const required = rules.message?.required === true || ((kind === "any" || kind === "duration" || kind === "timestamp") && detail?.["required"] === true);
    if (value === undefined && required) {
      this.#report("OR2001", message, field.name, `${quote(field.name)} is required in ${message.$typeName}`);
      return;
    }
    if (kind === undefined || detail === undefined) return;
    if (field.label === "list") this.#list(message, field, detail, (value as unknown[] | undefined) ?? []);
    else if (field.label === "map") this.#map(message, field, detail, (value as Record<string, unknown> | undefined) ?? {});
    else {
      // A scalar that is not set explicitly has its default, and the rule holds for that.
      if (value === undefined && field.explicit) return;
      const actual = value ?? message[field.localName];
      this.#one(message, field, field.name, kind, detail, actual);
    }
  }

  #list(message: LoadedMessage, field: FieldDesc, rules: Rules, items: readonly unknown[]): void {
    if (rules["ignoreEmpty"] === true && items.length === 0) return;
    const min = rules["minItems"] as bigint | undefined;
    const max = rules["maxItems"] as bigint | undefined;
    if (min !== undefined && items.length < min)
      this.#report(
        "OR2006",
        message,
        field.name,
        `${quote(field.name)} needs at least ${count(min, "item")}, ${items.length === 0 ? "it has none" : `it has ${items.length}`}`,
      );
    if (max !== undefined && items.length > max)
      this.#report("OR2006", message, field.name, `${quote(field.name)} takes at most ${count(max, "item")}, it has ${items.length}`);
    if (rules["unique"] === true) {
      const seen = new Set<unknown>();
      items.forEach((item, index) => {
        const key = item instanceof Uint8Array ? Buffer.from(item).toString("latin1") : item;
        if (seen.has(key)) this.#report("OR2007", message, segment(field.name, index), `${quote(field.name)} holds ${show(item)} twice`);
        seen.add(key);
      });
    }
    const itemRules = rules["items"] as FieldRules | undefined;
    const kind = itemRules?.type.case;
    if (kind !== undefined)
      for (const [index, item] of items.entries()) this.#one(message, field, segment(field.name, index), kind, itemRules?.type.value as Rules, item);
  }

  #map(message: LoadedMessage, field: FieldDesc, rules: Rules, map: Record<string, unknown>): void {
    const keys = Object.keys(map);
    if (rules["ignoreEmpty"] === true && keys.length === 0) return;
    const min = rules["minPairs"] as bigint | undefined;
    const max = rules["maxPairs"] as bigint | undefined;
    if (min !== undefined && keys.length < min)
      this.#report("OR2006", message, field.name, `${quote(field.name)} needs at least ${count(min, "entry", "entries")}, it has ${keys.length}`);
    if (max !== undefined && keys.length > max)
      this.#report("OR2006", message, field.name, `${quote(field.name)} takes at most ${count(max, "entry", "entries")}, it has ${keys.length}`);
    const keyRules = rules["keys"] as FieldRules | undefined;
    const valueRules = rules["values"] as FieldRules | undefined;
    for (const key of keys) {
      const path = segment(field.name, key);
      if (keyRules?.type.case !== undefined)
        this.#one(
          message,
          field,
          path,
          keyRules.type.case,
          keyRules.type.value as Rules,
          field.mapKey === "string" ? key : field.mapKey === "bool" ? key === "true" : BigInt(key),
        );
      if (valueRules?.type.case !== undefined) this.#one(message, field, path, valueRules.type.case, valueRules.type.value as Rules, map[key]);
    }
  }

  /** One value against the rules of its kind. */
  #one(message: LoadedMessage, field: FieldDesc, path: string, kind: string, rules: Rules, value: unknown): void {
    let problem: Problem | undefined;
    switch (kind) {
      case "string":
        if (rules["ignoreEmpty"] === true && value === "") return;
        problem = checkString(rules, value as string);
        break;
      case "bytes":
        if (rules["ignoreEmpty"] === true && (value as Uint8Array).length === 0) return;
        problem = checkBytes(rules, value as Uint8Array);
        break;
      case "bool":
        if (rules["const"] !== undefined && rules["const"] !== value) problem = ["OR2010", `must be ${rules["const"]}`];
        break;
      case "enum":
        problem = this.#enum(field, rules, value as number);
        break;
      case "duration":
      case "timestamp":
        problem = checkMoment(kind, rules, value as Moment);
        break;
      case "any":
        problem = checkAny(rules, value as LoadedMessage);
        break;
      case "repeated":
      case "map":
        break;
      default:
        if (rules["ignoreEmpty"] === true && (value === 0 || value === 0n)) return;
        problem = checkNumber(rules, value as number | bigint);
    }
    if (problem !== undefined) this.#report(problem[0], message, path, `${quote(path)} ${problem[1]}`, problem[2]);
  }

  #enum(field: FieldDesc, rules: Rules, value: number): Problem | undefined {
    if (rules["const"] !== undefined && rules["const"] !== value) return ["OR2010", `must be ${nameOfEnum(field, rules["const"] as number)}`];
    if (rules["definedOnly"] === true && field.type === "enum" && field.enum.byNumber(value) === undefined)
      return ["OR2009", `: ${value} is no value of ${field.enum.typeName}`];
    const allowed = rules["in"] as number[];
    const forbidden = rules["notIn"] as number[];
    if (allowed.length > 0 && !allowed.includes(value))
      return ["OR2005", `may not be ${nameOfEnum(field, value)}`, `one of ${allowed.map((v) => nameOfEnum(field, v)).join(", ")}`];
    if (forbidden.includes(value)) return ["OR2005", `may not be ${nameOfEnum(field, value)}`];
    return undefined;
  }
}

type Problem = readonly [code: Finding["code"], text: string, hint?: string];

function nameOfEnum(field: FieldDesc, value: number): string {
  return (field.type === "enum" ? field.enum.byNumber(value)?.name : undefined) ?? String(value);
}

function count(n: bigint, word: string, plural = `${word}s`): string {
  return `${n} ${n === 1n ? word : plural}`;
}

function show(value: unknown): string {
  return typeof value === "string"
    ? quote(value)
    : value instanceof Uint8Array
      ? `${value.length} bytes`
      : typeof value === "object" && value !== null
        ? "a value"
        : String(value);
}

/** Bounds in PGV's way: an upper bound below the lower one means "outside of". */
function outOfRange<T>(rules: Rules, compare: (bound: T) => number, name: (bound: T) => string): string | undefined {
  const gt = rules["gt"] as T | undefined;
  const gte = rules["gte"] as T | undefined;
  const lt = rules["lt"] as T | undefined;
  const lte = rules["lte"] as T | undefined;
  const aboveOk = gt !== undefined ? compare(gt) > 0 : gte !== undefined ? compare(gte) >= 0 : true;
  const belowOk = lt !== undefined ? compare(lt) < 0 : lte !== undefined ? compare(lte) <= 0 : true;
  const low = gt !== undefined ? `greater than ${name(gt)}` : gte !== undefined ? `at least ${name(gte)}` : undefined;
  const high = lt !== undefined ? `less than ${name(lt)}` : lte !== undefined ? `at most ${name(lte)}` : undefined;
  if (aboveOk && belowOk) return undefined;
  const lower = gt ?? gte;
  const upper = lt ?? lte;
  if (lower !== undefined && upper !== undefined && order(lower, upper) > 0) return aboveOk || belowOk ? undefined : `must be ${low} or ${high}`;
  return `must be ${[low, high].filter((s) => s !== undefined).join(" and ")}`;
}

function order(a: unknown, b: unknown): number {
  const left = typeof a === "object" ? nanosOf(a as Moment) : (a as number);
  const right = typeof b === "object" ? nanosOf(b as Moment) : (b as number);
  return left < right ? -1 : left > right ? 1 : 0;
}

function checkNumber(rules: Rules, value: number | bigint): Problem | undefined {
  if (rules["const"] !== undefined && rules["const"] !== value) return ["OR2010", `is ${value}, it must be ${rules["const"]}`];
  const range = outOfRange<number | bigint>(rules, (bound) => (value < bound ? -1 : value > bound ? 1 : value === bound ? 0 : Number.NaN), String);
  if (range !== undefined) return ["OR2002", `is ${value}, it ${range}`];
  const allowed = rules["in"] as (number | bigint)[];
  if (allowed.length > 0 && !allowed.includes(value)) return ["OR2005", `is ${value}, it must be one of ${allowed.join(", ")}`];
  if ((rules["notIn"] as (number | bigint)[]).includes(value)) return ["OR2005", `may not be ${value}`];
  return undefined;
}

interface Moment {
  readonly seconds: bigint;
  readonly nanos: number;
}

function nanosOf(moment: Moment): bigint {
  return moment.seconds * 1_000_000_000n + BigInt(moment.nanos);
}

function momentText(moment: Moment): string {
  const nanos = nanosOf(moment);
  const magnitude = nanos < 0n ? -nanos : nanos;
  const fraction = (magnitude % 1_000_000_000n).toString().padStart(9, "0").replace(/0+$/, "");
  return `${nanos < 0n ? "-" : ""}${magnitude / 1_000_000_000n}${fraction === "" ? "" : `.${fraction}`}s`;
}

function checkMoment(kind: "duration" | "timestamp", rules: Rules, value: Moment): Problem | undefined {
  const nanos = nanosOf(value);
  // PGV for C++ reads durations as nanoseconds in 64 bits (about 292 years).
  if (kind === "duration" && (nanos > 0x7fffffffffffffffn || nanos < -0x8000000000000000n))
    return ["OR2002", `is ${momentText(value)}, more than a duration here may be (about 292 years)`];
  const range = outOfRange<Moment>(rules, (bound) => order(value, bound), momentText);
  const exact = rules["const"] as Moment | undefined;
  if (exact !== undefined && nanosOf(exact) !== nanos) return ["OR2010", `is ${momentText(value)}, it must be ${momentText(exact)}`];
  if (range !== undefined) return ["OR2002", `is ${momentText(value)}, it ${range}`];
  const allowed = (rules["in"] as Moment[] | undefined) ?? [];
  if (allowed.length > 0 && !allowed.some((m) => nanosOf(m) === nanos))
    return ["OR2005", `is ${momentText(value)}, it must be one of ${allowed.map(momentText).join(", ")}`];
  if (((rules["notIn"] as Moment[] | undefined) ?? []).some((m) => nanosOf(m) === nanos)) return ["OR2005", `may not be ${momentText(value)}`];
  if (kind === "timestamp") {
    const now = BigInt(Math.trunc((performance.timeOrigin + performance.now()) * 1e6));
    const within = rules["within"] as Moment | undefined;
    if (rules["ltNow"] === true && nanos >= now) return ["OR2002", "must lie in the past"];
    if (rules["gtNow"] === true && nanos <= now) return ["OR2002", "must lie in the future"];
    if (within !== undefined && (nanos > now + nanosOf(within) || nanos < now - nanosOf(within)))
      return ["OR2002", `must lie within ${momentText(within)} of now`];
  }
  return undefined;
}

function checkAny(rules: Rules, value: LoadedMessage): Problem | undefined {
  const url = `type.googleapis.com/${value.$typeName}`;
  const allowed = rules["in"] as string[];
  if (allowed.length > 0 && !allowed.includes(url)) return ["OR2005", `may not hold ${value.$typeName}`, `one of ${allowed.join(", ")}`];
  if ((rules["notIn"] as string[]).includes(url)) return ["OR2005", `may not hold ${value.$typeName}`];
  return undefined;
}

function checkBytes(rules: Rules, value: Uint8Array): Problem | undefined {
  const length = BigInt(value.length);
  const bytes = Buffer.from(value);
  const exact = rules["const"] as Uint8Array | undefined;
  if (exact !== undefined && !bytes.equals(exact)) return ["OR2010", "is not the value it must be"];
  const size = checkLength(length, rules["len"], rules["minLen"], rules["maxLen"], "byte");
  if (size !== undefined) return size;
  const prefix = rules["prefix"] as Uint8Array | undefined;
  if (prefix !== undefined && !bytes.subarray(0, prefix.length).equals(prefix)) return ["OR2004", "does not begin as it must"];
  const suffix = rules["suffix"] as Uint8Array | undefined;
  if (suffix !== undefined && !bytes.subarray(Math.max(0, bytes.length - suffix.length)).equals(suffix)) return ["OR2004", "does not end as it must"];
  const contains = rules["contains"] as Uint8Array | undefined;
  if (contains !== undefined && !bytes.includes(Buffer.from(contains))) return ["OR2004", "does not contain what it must"];
  const allowed = rules["in"] as Uint8Array[];
  if (allowed.length > 0 && !allowed.some((a) => bytes.equals(a))) return ["OR2005", "is not one of the values allowed"];
  if ((rules["notIn"] as Uint8Array[]).some((a) => bytes.equals(a))) return ["OR2005", "is a value that is not allowed"];
  const known = (rules["wellKnown"] as { case?: string } | undefined)?.case;
  if ((known === "ip" && length !== 4n && length !== 16n) || (known === "ipv4" && length !== 4n) || (known === "ipv6" && length !== 16n))
    return ["OR2008", `is not an ${known} address in binary`];
  const pattern = rules["pattern"] as string | undefined;
  if (pattern !== undefined && !rulePattern(pattern).test(bytes.toString("latin1"))) return ["OR2004", `does not match ${pattern}`];
  return undefined;
}

function checkLength(length: bigint, exact: unknown, min: unknown, max: unknown, unit: string): Problem | undefined {
  if (exact !== undefined && length !== exact) return ["OR2003", `is ${count(length, unit)} long, it must be ${exact}`];
  if (min !== undefined && length < (min as bigint))
    return ["OR2003", length === 0n ? "may not be empty" : `is ${count(length, unit)} long, it must be at least ${min}`];
  if (max !== undefined && length > (max as bigint)) return ["OR2003", `is ${count(length, unit)} long, at most ${max} are allowed`];
  return undefined;
}

function checkString(rules: Rules, value: string): Problem | undefined {
  const exact = rules["const"] as string | undefined;
  if (exact !== undefined && value !== exact) return ["OR2010", `is ${quote(value)}, it must be ${quote(exact)}`];
  const allowed = rules["in"] as string[];
  if (allowed.length > 0 && !allowed.includes(value)) return ["OR2005", `is ${quote(value)}, it must be one of ${allowed.map(quote).join(", ")}`];
  if ((rules["notIn"] as string[]).includes(value)) return ["OR2005", `may not be ${quote(value)}`];
  const length = checkLength(BigInt(codePoints(value)), rules["len"], rules["minLen"], rules["maxLen"], "character");
  if (length !== undefined) return length;
  if (rules["lenBytes"] !== undefined || rules["minBytes"] !== undefined || rules["maxBytes"] !== undefined) {
    const bytes = checkLength(BigInt(Buffer.byteLength(value)), rules["lenBytes"], rules["minBytes"], rules["maxBytes"], "byte");
    if (bytes !== undefined) return bytes;
  }
  const prefix = rules["prefix"] as string | undefined;
  if (prefix !== undefined && !value.startsWith(prefix)) return ["OR2004", `is ${quote(value)}, it must begin with ${quote(prefix)}`];
  const suffix = rules["suffix"] as string | undefined;
  if (suffix !== undefined && !value.endsWith(suffix)) return ["OR2004", `is ${quote(value)}, it must end in ${quote(suffix)}`];
  const contains = rules["contains"] as string | undefined;
  if (contains !== undefined && !value.includes(contains)) return ["OR2004", `is ${quote(value)}, it must contain ${quote(contains)}`];
  const without = rules["notContains"] as string | undefined;
  if (without !== undefined && value.includes(without)) return ["OR2004", `is ${quote(value)}, it may not contain ${quote(without)}`];
  const pattern = rules["pattern"] as string | undefined;
  if (pattern !== undefined && !rulePattern(pattern).test(value)) return ["OR2004", `is ${quote(value)}, it must match ${pattern}`];
  return checkWellKnown(rules, value);
}

function codePoints(value: string): number {
  let pairs = 0;
  for (let i = 0; i < value.length; i++) if ((value.charCodeAt(i) & 0xfc00) === 0xd800) pairs++;
  return value.length - pairs;
}

/** Patterns come from the API's own files, never from input: a handful of anchored character classes. */
const patterns = new Map<string, RegExp>();
function rulePattern(pattern: string): RegExp {
  let compiled = patterns.get(pattern);
  if (compiled === undefined) patterns.set(pattern, (compiled = new RegExp(pattern.replaceAll("\\z", "$"), "u")));
  return compiled;
}

function checkWellKnown(rules: Rules, value: string): Problem | undefined {
  const known = rules["wellKnown"] as { case?: string; value?: unknown } | undefined;
  if (known?.case === undefined || known.value === false) return undefined;
  const bad = (what: string): Problem => ["OR2008", `is ${quote(value)}, which is not ${what}`];
  switch (known.case) {
    case "ip":
      return isIP(value) !== 0 ? undefined : bad("an IP address");
    case "ipv4":
      return isIPv4(value) ? undefined : bad("an IPv4 address");
    case "ipv6":
      return isIPv6(value) ? undefined : bad("an IPv6 address");
    case "hostname":
      return isHostname(value) ? undefined : bad("a host name");
    case "address":
      return isHostname(value) || isIP(value) !== 0 ? undefined : bad("a host name or IP address");
    case "email": {
      const at = value.lastIndexOf("@");
      return at > 0 && at <= 64 && value.length <= 254 && !/[\s<>]/.test(value) && isHostname(value.slice(at + 1)) ? undefined : bad("an e-mail address");
    }
    case "uri":
      return URL.canParse(value) ? undefined : bad("a URI");
    case "uriRef":
      return URL.canParse(value, "http://base/") ? undefined : bad("a URI or relative reference");
    case "uuid":
      return /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i.test(value) ? undefined : bad("a UUID");
    case "wellKnownRegex": {
      // validate.KnownRegex; `strict` (the default) is RFC 9110's grammar, else only NUL, CR and LF are refused.
      const strict = rules["strict"] !== false;
      const name = known.value === 1;
      if (known.value !== 1 && known.value !== 2) return undefined;
      if (name ? (strict ? strictName : loose).test(value) : (strict ? strictValue : loose).test(value)) return undefined;
      return ["OR2008", `is ${quote(value)}, which is not a valid header ${name ? "name" : "value"}: ${describeBadCharacter(value, name, strict)}`];
    }
    default:
      return undefined;
  }
}

const strictName = /^:?[0-9a-zA-Z!#$%&'*+\-.^_|~`,]+$/;
const strictValue = /^[^\u0000-\u0008\u000A-\u001F\u007F]*$/;
const loose = /^[^\u0000\u000A\u000D]*$/;

function describeBadCharacter(value: string, name: boolean, strict: boolean): string {
  if (value === "") return "it is empty";
  const allowed = name
    ? strict
      ? /[0-9a-zA-Z!#$%&'*+\-.^_|~`,]/
      : /[^\u0000\u000A\u000D]/
    : strict
      ? /[^\u0000-\u0008\u000A-\u001F\u007F]/
      : /[^\u0000\u000A\u000D]/;
  const bad = [...value].find((c, i) => !allowed.test(c) && !(name && i === 0 && c === ":"));
  return bad === undefined ? "it has no name" : `it holds ${JSON.stringify(bad)}`;
}

/** RFC 1034 host name: letters, digits and inner dashes, labels of at most 63, 253 in all. */
function isHostname(value: string): boolean {
  const name = value.endsWith(".") ? value.slice(0, -1) : value;
  if (name.length === 0 || name.length > 253) return false;
  return name
    .split(".")
    .every((label) => label.length > 0 && label.length <= 63 && /^[0-9a-zA-Z-]+$/.test(label) && !label.startsWith("-") && !label.endsWith("-"));
}
