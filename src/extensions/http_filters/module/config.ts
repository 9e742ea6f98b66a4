/** outrider.filters.http.module: a filter that users write, in TypeScript or JavaScript. */
import { existsSync } from "node:fs";
import { dirname, isAbsolute, resolve } from "node:path";
import { type AnyMessage, durationMs, isMessage, type JsonObject } from "../../../config/message.ts";
import type { Module, ModulePerRoute } from "../../../config/schema/types/outrider.extensions.filters.http.module.v1.d.ts";
import { getLogger } from "../../../log/log.ts";
import type { HttpFilter, HttpFilterModule } from "../../../sdk/filter.ts";
import type { CompileContext, Extension } from "../../extension.ts";
import { ModuleFilter, type ModulePlace } from "./filter.ts";
import { filesOfModule, loadModule, type ModuleVersion, moduleOf, stackOf, versionOfModule } from "./library.ts";

const pkg = "outrider.extensions.filters.http.module.v1.";
const typeName = `${pkg}Module`;
const perRoute = `${pkg}ModulePerRoute`;
/** A call that takes a tenth of a second makes every other request of the worker wait as long. */
const defaultBudgetMs = 100;

const log = getLogger("filter");

/** What `prepare` leaves in the message, to go with it to the workers. */
interface Prepared {
  $module?: ModuleVersion;
}

type AnyModule = HttpFilterModule<unknown, unknown> & {
  configure?(config: JsonObject): unknown;
  configureRoute?(config: JsonObject): unknown;
};

/** The export that is the filter; undefined, with a finding, where there is none. */
function find(message: Module & Prepared, context: CompileContext): AnyModule | undefined {
  const version = message.$module;
  const module = version === undefined ? new Error("it was not loaded") : moduleOf(version);
  if (module instanceof Error) {
    context.report(message, "path", {
      code: "OR3700",
      text: `filter module ${message.path} cannot be loaded: ${stackOf(module)}`,
      hint: existsSync(message.path) ? undefined : "there is no such file; a relative path begins at the file that names it",
    });
    return undefined;
  }
  const name = message.export === "" ? "default" : message.export;
  const found = module[name] as AnyModule | undefined;
  if (typeof found?.create === "function") return found;
  const exports = Object.keys(module);
  context.report(message, message.export === "" ? "path" : "export", {
    code: "OR3701",
    text: `filter module ${message.path}: its export '${name}' is no filter`,
    hint: `export ${name === "default" ? "default" : `const ${name} =`} defineHttpFilter({ create() { ... } }); it exports ${exports.length === 0 ? "nothing" : exports.join(", ")}`,
  });
  return undefined;
}

function configure<T>(of: () => T, message: object, path: string, context: CompileContext): T | undefined {
  try {
    return of();
  } catch (error) {
    context.report(message, "config", {
      code: "OR3702",
      text: `filter module ${path} refuses its configuration: ${error instanceof Error ? error.message : String(error)}`,
    });
    return undefined;
  }
}

/** Route settings are known by their filter's name only, and are configured by whatever module has that name. */
class RouteSettings {
  readonly config: JsonObject;
  readonly #made = new Map<AnyModule, unknown>();
  constructor(config: JsonObject) {
    this.config = config;
  }
  of(module: AnyModule): unknown {
    if (!this.#made.has(module)) this.#made.set(module, module.configureRoute === undefined ? this.config : module.configureRoute(this.config));
    return this.#made.get(module);
  }
}

/** The callbacks as a user's filter has them: route settings are what its `configureRoute` made of them. */
function withRouteSettings<C extends { routeConfig<T>(): T | undefined; routeConfigs<T>(): T[] }>(callbacks: C, module: AnyModule): C {
  const own = Object.create(callbacks) as C;
  own.routeConfig = <T>() => callbacks.routeConfig<RouteSettings>()?.of(module) as T | undefined;
  own.routeConfigs = <T>() => callbacks.routeConfigs<RouteSettings>().map((settings) => settings.of(module) as T);
  return own;
}

export default {
  honours: { [typeName]: "*", [perRoute]: "*" },
  async prepare(message, { isMain, file }) {
    if (!isMessage<Module>(message, typeName)) return;
    const holder = message as Module & Prepared;
    if (isMain) {
      if (!isAbsolute(holder.path)) holder.path = resolve(file === undefined ? "." : dirname(resolve(file)), holder.path);
      holder.$module = versionOfModule(holder.path);
    }
    if (holder.$module !== undefined) await loadModule(holder.$module);
  },
  httpFilter: {
    compile(message: AnyMessage, context, { name, statPrefix, scope }) {
      if (!isMessage<Module>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const module = find(message, context);
      // --watch looks at these.
      if (context.validating) for (const path of filesOfModule(message.path).keys()) context.readFile(path, message, "path");
      const config = message.config ?? {};
      const settings = module?.configure === undefined ? config : configure(() => module.configure?.(config), message, message.path, context);
      const own = scope.scope(`module.${name}.`);
      const say = (level: "debug" | "info" | "warning" | "error") => (text: string) => log[level](`filter '${name}': ${text}`);
      const filterContext = {
        name,
        log: { debug: say("debug"), info: say("info"), warning: say("warning"), error: say("error") },
        counter: (statistic: string) => own.counter(statistic),
        gauge: (statistic: string) => own.gauge(statistic),
        histogram: own.histogram.bind(own),
      };
      const place: ModulePlace = {
        name,
        path: message.path,
        budgetMs: durationMs(message.timeBudget, defaultBudgetMs),
        failureModeAllow: message.failureModeAllow,
        errors: own.counter("errors"),
        overBudget: own.counter("over_budget"),
        create: () => {
          if (module === undefined) throw new Error(`${message.path} could not be loaded on this worker (${statPrefix})`);
          return withModule(module.create(settings, filterContext), module);
        },
        now: () => context.timers.clock.now(),
        lastErrorMs: Number.NEGATIVE_INFINITY,
        lastBudgetMs: Number.NEGATIVE_INFINITY,
      };
      return () => new ModuleFilter(place);
    },
    compileRoute(message: AnyMessage) {
      if (!isMessage<ModulePerRoute>(message, perRoute)) throw new Error(`${message.$typeName} is no ${perRoute}`);
      return new RouteSettings(message.config ?? {});
    },
  },
} satisfies Extension;

/** Gives a filter its callbacks with its own route settings. */
function withModule(filter: HttpFilter, module: AnyModule): HttpFilter {
  const { setDecoderCallbacks, setEncoderCallbacks } = filter;
  if (setDecoderCallbacks !== undefined) filter.setDecoderCallbacks = (callbacks) => setDecoderCallbacks.call(filter, withRouteSettings(callbacks, module));
  if (setEncoderCallbacks !== undefined) filter.setEncoderCallbacks = (callbacks) => setEncoderCallbacks.call(filter, withRouteSettings(callbacks, module));
  return filter;
}
