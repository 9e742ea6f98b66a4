/** envoy.filters.http.set_filter_state: leaves values that are made of the request for filters, routers and logs. */
import { type AnyMessage, isMessage } from "../../../config/message.ts";
import type { Config } from "../../../config/schema/types/envoy.extensions.filters.http.set_filter_state.v3.d.ts";
import type { DecoderFilterCallbacks, FilterHeadersStatus, HttpFilter } from "../../../http/filter.ts";
import type { RequestHeaders } from "../../../http/header-map.ts";
import type { CompileContext, Extension } from "../../extension.ts";
import { compileFilterState, type FilterStateSetter, honours as stateHonours } from "../../filter_state/set.ts";

const typeName = "envoy.extensions.filters.http.set_filter_state.v3.Config";

interface Settings {
  readonly setters: readonly FilterStateSetter[];
  readonly clearRouteCache: boolean;
}

class SetFilterState implements HttpFilter {
  readonly #own: Settings;
  #callbacks!: DecoderFilterCallbacks;

  constructor(own: Settings) {
    this.#own = own;
  }

  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#callbacks = callbacks;
  }

  decodeHeaders(headers: RequestHeaders): FilterHeadersStatus {
    const { streamInfo } = this.#callbacks;
    for (const settings of [this.#own, ...this.#callbacks.routeConfigs<Settings>()]) {
      for (const set of settings.setters) set(streamInfo, headers);
      if (settings.clearRouteCache) this.#callbacks.clearRouteCache();
    }
    return "continue";
  }
}

function settingsOf(message: AnyMessage, context: CompileContext): Settings {
  if (!isMessage<Config>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
  return { setters: message.onRequestHeaders.map((value) => compileFilterState(value, context)), clearRouteCache: message.clearRouteCache };
}

export default {
  honours: { ...stateHonours, [typeName]: "*" },
  httpFilter: {
    compile(message: AnyMessage, context) {
      const settings = settingsOf(message, context);
      return () => new SetFilterState(settings);
    },
    compileRoute: settingsOf,
  },
} satisfies Extension;
