/**
 * The generic matcher (xds.type.matcher.v3.Matcher and its envoy.config.common.matcher.v3 twin): a tree of conditions over named inputs
 * that ends in actions. Which inputs there are and what an action is belongs to whoever compiles one.
 */
import type { AnyMessage } from "../config/message.ts";
import type { Matcher as CommonMatcher } from "../config/schema/types/envoy.config.common.matcher.v3.d.ts";
import type { Ip } from "../config/schema/types/envoy.extensions.matching.input_matchers.ip.v3.d.ts";
import type {
  IPMatcher,
  Matcher_MatcherList_Predicate,
  Matcher_MatcherTree_MatchMap,
  Matcher_OnMatch,
  ServerNameMatcher,
  Matcher as XdsMatcher,
} from "../config/schema/types/xds.type.matcher.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { type Cidr, compileCidr, compileCidrList, parseIp } from "./cidr.ts";
import { asciiLower, compileStringMatcher, toBytes } from "./string-matcher.ts";

export const honours: Honours = {
  "xds.type.matcher.v3.Matcher": "*",
  "xds.type.matcher.v3.Matcher.OnMatch": "*",
  "xds.type.matcher.v3.Matcher.MatcherList": "*",
  "xds.type.matcher.v3.Matcher.MatcherList.FieldMatcher": "*",
  "xds.type.matcher.v3.Matcher.MatcherList.Predicate": "*",
  "xds.type.matcher.v3.Matcher.MatcherList.Predicate.SinglePredicate": "*",
  "xds.type.matcher.v3.Matcher.MatcherList.Predicate.PredicateList": "*",
  "xds.type.matcher.v3.Matcher.MatcherTree": "*",
  "xds.type.matcher.v3.Matcher.MatcherTree.MatchMap": "*",
  "envoy.config.common.matcher.v3.Matcher": "*",
  "envoy.config.common.matcher.v3.Matcher.OnMatch": "*",
  "envoy.config.common.matcher.v3.Matcher.MatcherList": "*",
  "envoy.config.common.matcher.v3.Matcher.MatcherList.FieldMatcher": "*",
  "envoy.config.common.matcher.v3.Matcher.MatcherList.Predicate": "*",
  "envoy.config.common.matcher.v3.Matcher.MatcherList.Predicate.SinglePredicate": "*",
  "envoy.config.common.matcher.v3.Matcher.MatcherList.Predicate.PredicateList": "*",
  "envoy.config.common.matcher.v3.Matcher.MatcherTree": "*",
  "envoy.config.common.matcher.v3.Matcher.MatcherTree.MatchMap": "*",
  "xds.type.matcher.v3.IPMatcher": "*",
  "xds.type.matcher.v3.IPMatcher.IPRangeMatcher": "*",
  "xds.type.matcher.v3.ServerNameMatcher": "*",
  "xds.type.matcher.v3.ServerNameMatcher.DomainMatcher": "*",
  "xds.core.v3.TypedExtensionConfig": "*",
  "envoy.config.core.v3.TypedExtensionConfig": "*",
  "envoy.extensions.matching.input_matchers.ip.v3.Ip": ["cidr_ranges"],
};

/** A matcher's answer: the action, or undefined. */
export interface Matcher<D, A> {
  match(data: D): A | undefined;
}

export interface MatcherKind<D, A> {
  /** The value of an input, undefined where it has none; undefined (after a finding) for a message that is no input. */
  input(message: AnyMessage, at: object): ((data: D) => string | undefined) | undefined;
  /** undefined after a finding. */
  action(message: AnyMessage, name: string, at: object): A | undefined;
  /** A custom_match predicate of a kind that core does not know. */
  predicate?(message: AnyMessage, at: object): ((value: string | undefined) => boolean) | undefined;
}

/** What a matched branch leads to. `keepMatching`: its action does not end the search (Envoy's keep_matching). */
interface OnMatch<D, A> {
  readonly action: A | undefined;
  readonly matcher: Matcher<D, A> | undefined;
  readonly keepMatching: boolean;
}

/** Nested matchers deeper than this are refused. */
const maxDepth = 64;

export function compileMatcher<D, A>(message: XdsMatcher | CommonMatcher, context: CompileContext, kind: MatcherKind<D, A>): Matcher<D, A> {
  return new Compiler(context, kind).matcher(message as XdsMatcher, 0);
}

class Compiler<D, A> {
  readonly #context: CompileContext;
  readonly #kind: MatcherKind<D, A>;
  constructor(context: CompileContext, kind: MatcherKind<D, A>) {
    this.#context = context;
    this.#kind = kind;
  }

  matcher(message: XdsMatcher, depth: number): Matcher<D, A> {
    if (depth > maxDepth) {
      this.#context.report(message, undefined, { code: "OR3501", text: `matchers are nested more than ${maxDepth} deep` });
      return { match: () => undefined };
    }
    const otherwise = message.onNoMatch === undefined ? undefined : this.#onMatch(message.onNoMatch, depth);
    const type = message.matcherType;
    let inner: (data: D) => A | undefined;
    switch (type.case) {
      case "matcherList": {
        const fields = type.value.matchers.map((field) => ({
          test: field.predicate === undefined ? () => false : this.#predicate(field.predicate, depth),
          onMatch: field.onMatch === undefined ? undefined : this.#onMatch(field.onMatch, depth),
        }));
        inner = (data) => {
          for (const field of fields) {
            if (!field.test(data)) continue;
            const found = resolve(field.onMatch, data);
            if (found !== undefined) return found;
          }
          return undefined;
        };
        break;
      }
      case "matcherTree": {
        const tree = type.value;
        const input = this.#input(tree.input, tree);
        switch (tree.treeType.case) {
          case "exactMatchMap": {
            const map = this.#map(tree.treeType.value, depth);
            inner = (data) => {
              const value = input(data);
              return value === undefined ? undefined : resolve(map.get(value), data);
            };
            break;
          }
          case "prefixMatchMap": {
            const map = this.#map(tree.treeType.value, depth);
            const lengths = [...new Set([...map.keys()].map((key) => key.length))].sort((a, b) => b - a);
            inner = (data) => {
              const value = input(data);
              if (value === undefined) return undefined;
              for (const length of lengths) {
                if (length > value.length) continue;
                const found = resolve(map.get(value.slice(0, length)), data);
                if (found !== undefined) return found;
              }
              return undefined;
            };
            break;
          }
          case "customMatch":
            inner = this.#customTree(tree.treeType.value.typedConfig as AnyMessage | undefined, input, tree, depth);
            break;
          default:
            this.#context.report(tree, "tree_type", { code: "OR2002", text: "a matcher_tree needs exact_match_map, prefix_match_map or custom_match" });
            inner = () => undefined;
        }
        break;
      }
      default:
        inner = () => undefined;
    }
    return { match: (data) => inner(data) ?? resolve(otherwise, data) };
  }

  #onMatch(message: Matcher_OnMatch, depth: number): OnMatch<D, A> | undefined {
    const target = message.onMatch;
    if (target.case === "matcher") return { action: undefined, matcher: this.matcher(target.value, depth + 1), keepMatching: message.keepMatching };
    if (target.case !== "action") {
      this.#context.report(message, "on_match", { code: "OR2002", text: "on_match needs an action or a matcher" });
      return undefined;
    }
    if (target.value.typedConfig === undefined) {
      this.#context.report(target.value, "typed_config", { code: "OR2001", text: `action ${target.value.name}: typed_config is required` });
      return undefined;
    }
    return {
      action: this.#kind.action(target.value.typedConfig as AnyMessage, target.value.name, target.value),
      matcher: undefined,
      keepMatching: message.keepMatching,
    };
  }

  #map(message: Matcher_MatcherTree_MatchMap, depth: number): Map<string, OnMatch<D, A> | undefined> {
    const map = new Map<string, OnMatch<D, A> | undefined>();
    for (const key of Object.keys(message.map)) map.set(toBytes(key), this.#onMatch(message.map[key], depth));
    return map;
  }

  #input(config: { readonly name: string; readonly typedConfig?: unknown } | undefined, at: object): (data: D) => string | undefined {
    const message = config?.typedConfig as AnyMessage | undefined;
    if (config === undefined || message === undefined) {
      this.#context.report(config ?? at, config === undefined ? "input" : "typed_config", {
        code: "OR2001",
        text: "a matcher needs an input with typed_config",
      });
      return () => undefined;
    }
    return this.#kind.input(message, config) ?? (() => undefined);
  }

  #predicate(message: Matcher_MatcherList_Predicate, depth: number): (data: D) => boolean {
    if (depth > maxDepth) {
      this.#context.report(message, undefined, { code: "OR3501", text: `predicates are nested more than ${maxDepth} deep` });
      return () => false;
    }
    const type = message.matchType;
    switch (type.case) {
      case "singlePredicate": {
        const single = type.value;
        const input = this.#input(single.input, single);
        if (single.matcher.case === "valueMatch") {
          const matcher = compileStringMatcher(single.matcher.value, this.#context);
          return (data) => {
            const value = input(data);
            return value !== undefined && matcher.matches(value);
          };
        }
        if (single.matcher.case === "customMatch") {
          const test = this.#custom(single.matcher.value.typedConfig as AnyMessage | undefined, single.matcher.value);
          return (data) => test(input(data));
        }
        this.#context.report(single, "matcher", { code: "OR2002", text: "a single_predicate needs value_match or custom_match" });
        return () => false;
      }
      case "orMatcher": {
        const tests = type.value.predicate.map((one) => this.#predicate(one, depth + 1));
        return (data) => tests.some((test) => test(data));
      }
      case "andMatcher": {
        const tests = type.value.predicate.map((one) => this.#predicate(one, depth + 1));
        return (data) => tests.every((test) => test(data));
      }
      case "notMatcher": {
        const test = this.#predicate(type.value, depth + 1);
        return (data) => !test(data);
      }
      default:
        this.#context.report(message, "match_type", { code: "OR2002", text: "a predicate needs single_predicate, or_matcher, and_matcher or not_matcher" });
        return () => false;
    }
  }

  #custom(message: AnyMessage | undefined, at: object): (value: string | undefined) => boolean {
    if (message === undefined) {
      this.#context.report(at, "typed_config", { code: "OR2001", text: "custom_match needs typed_config" });
      return () => false;
    }
    if (message.$typeName === "envoy.extensions.matching.input_matchers.ip.v3.Ip") {
      const ranges = compileCidrList((message as Ip).cidrRanges, this.#context);
      return (value) => value !== undefined && ranges.contains(value);
    }
    const own = this.#kind.predicate?.(message, at);
    if (own !== undefined) return own;
    this.#context.report(at, "typed_config", { code: "OR4005", text: `custom_match of type ${message.$typeName} is not supported` });
    return () => false;
  }

  #customTree(message: AnyMessage | undefined, input: (data: D) => string | undefined, at: object, depth: number): (data: D) => A | undefined {
    if (message?.$typeName === "xds.type.matcher.v3.IPMatcher") {
      const ranges: { readonly cidr: Cidr; readonly onMatch: OnMatch<D, A> | undefined; readonly exclusive: boolean }[] = [];
      for (const group of (message as IPMatcher).rangeMatchers) {
        const onMatch = group.onMatch === undefined ? undefined : this.#onMatch(group.onMatch, depth);
        for (const range of group.ranges) {
          const cidr = compileCidr(range, this.#context);
          if (cidr !== undefined) ranges.push({ cidr, onMatch, exclusive: group.exclusive });
        }
      }
      // The most specific range first; among equals the order of the configuration.
      ranges.sort((a, b) => b.cidr.length - a.cidr.length);
      return (data) => {
        const address = parseIp(input(data) ?? "");
        if (address === undefined) return undefined;
        const bits = address.family === 4 ? 32 : 128;
        let first = true;
        for (const { cidr, onMatch, exclusive } of ranges) {
          if (cidr.family !== address.family || address.value >> BigInt(bits - cidr.length) !== cidr.network) continue;
          // An exclusive range counts only where no more specific one was tried before it.
          if (!first && exclusive) continue;
          first = false;
          const found = resolve(onMatch, data);
          if (found !== undefined) return found;
        }
        return undefined;
      };
    }
    if (message?.$typeName === "xds.type.matcher.v3.ServerNameMatcher") {
      const exact = new Map<string, OnMatch<D, A> | undefined>();
      const wildcards: { readonly suffix: string; readonly onMatch: OnMatch<D, A> | undefined }[] = [];
      for (const group of (message as ServerNameMatcher).domainMatchers) {
        const onMatch = group.onMatch === undefined ? undefined : this.#onMatch(group.onMatch, depth);
        for (const domain of group.domains) {
          const name = asciiLower(toBytes(domain));
          if (name === "*") wildcards.push({ suffix: "", onMatch });
          else if (name.startsWith("*.")) wildcards.push({ suffix: name.slice(1), onMatch });
          else if (name.includes("*"))
            this.#context.report(group, "domains", { code: "OR3502", text: `invalid domain "${domain}": a wildcard may only stand for the first label` });
          else if (exact.has(name)) this.#context.report(group, "domains", { code: "OR3503", text: `duplicate domain: ${domain}` });
          else exact.set(name, onMatch);
        }
      }
      wildcards.sort((a, b) => b.suffix.length - a.suffix.length);
      return (data) => {
        const value = input(data);
        if (value === undefined) return undefined;
        const name = asciiLower(value);
        const found = resolve(exact.get(name), data);
        if (found !== undefined) return found;
        for (const { suffix, onMatch } of wildcards) {
          if (!name.endsWith(suffix) || name.length <= suffix.length) continue;
          const wild = resolve(onMatch, data);
          if (wild !== undefined) return wild;
        }
        return undefined;
      };
    }
    this.#context.report(at, "custom_match", { code: "OR4005", text: `custom_match of type ${message?.$typeName ?? "(none)"} is not supported` });
    return () => undefined;
  }
}

/** The action a branch ends in; undefined goes on with the next branch. */
function resolve<D, A>(onMatch: OnMatch<D, A> | undefined, data: D): A | undefined {
  if (onMatch === undefined || onMatch.keepMatching) return undefined;
  return onMatch.matcher === undefined ? onMatch.action : onMatch.matcher.match(data);
}
