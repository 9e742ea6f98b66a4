/** typed_per_filter_config of the four levels: route configuration, virtual host, route, weighted cluster. */
import type { AnyMessage } from "../config/message.ts";
import { isMessage } from "../config/message.ts";
import type { FilterConfig } from "../config/schema/types/envoy.config.route.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { extensionOfMessage } from "../extensions/registry.ts";
import type { PerFilterConfig } from "./route.ts";

export const honours: Honours = { "envoy.config.route.v3.FilterConfig": "*" };

const none: ReadonlyMap<string, PerFilterConfig> = new Map();

export function compilePerFilterConfig(
  configs: { readonly [key: string]: AnyMessage },
  at: object,
  context: CompileContext,
): ReadonlyMap<string, PerFilterConfig> {
  const names = Object.keys(configs);
  if (names.length === 0) return none;
  const compiled = new Map<string, PerFilterConfig>();
  for (const name of names) {
    let message: AnyMessage | undefined = configs[name];
    let disabled = false;
    let optional = false;
    let where: object = at;
    let field = `typed_per_filter_config[${JSON.stringify(name)}]`;
    if (isMessage<FilterConfig>(message, "envoy.config.route.v3.FilterConfig")) {
      disabled = message.disabled;
      optional = message.isOptional;
      where = message;
      field = "config";
      message = message.config;
    }
    if (disabled) {
      // Envoy does not look at the settings of a filter that is switched off.
      compiled.set(name, { disabled: true, settings: undefined });
      continue;
    }
    if (message === undefined) {
      context.report(where, field, { code: "OR3401", text: `typed_per_filter_config of ${name}: FilterConfig without config must be disabled` });
      continue;
    }
    if (message.$typeName === "google.protobuf.Any") {
      // Empty: the filter is on here, with its own settings.
      compiled.set(name, { disabled: false, settings: undefined });
      continue;
    }
    if (optional && extensionOfMessage(message.$typeName) === undefined) continue;
    const extension = context.extension("envoy.filters.http", message, where, field, name);
    if (extension === undefined) continue;
    const compileRoute = extension.httpFilter?.compileRoute;
    if (compileRoute === undefined) {
      context.report(where, field, { code: "OR3402", text: `The filter ${name} doesn't support virtual host or route specific configurations` });
      continue;
    }
    compiled.set(name, { disabled: false, settings: compileRoute.call(extension.httpFilter, message, context) });
  }
  return compiled;
}

/** What a route answers about one filter, from all its levels (least specific first). */
export class PerFilterLevels {
  readonly #levels: readonly ReadonlyMap<string, PerFilterConfig>[];
  #settings: Map<string, readonly unknown[]> | undefined = undefined;

  constructor(levels: readonly ReadonlyMap<string, PerFilterConfig>[]) {
    this.#levels = levels.filter((level) => level.size > 0);
  }

  settings(filterName: string): readonly unknown[] {
    if (this.#levels.length === 0) return nothing;
    this.#settings ??= new Map();
    let found = this.#settings.get(filterName);
    if (found === undefined) {
      const list: unknown[] = [];
      for (const level of this.#levels) {
        const config = level.get(filterName);
        if (config !== undefined && !config.disabled && config.settings !== undefined) list.push(config.settings);
      }
      found = list;
      // Bounded: filter names come from the configuration.
      this.#settings.set(filterName, found);
    }
    return found;
  }

  disabled(filterName: string): boolean | undefined {
    for (let i = this.#levels.length - 1; i >= 0; i--) {
      const config = this.#levels[i].get(filterName);
      if (config !== undefined) return config.disabled;
    }
    return undefined;
  }
}

const nothing: readonly unknown[] = [];
