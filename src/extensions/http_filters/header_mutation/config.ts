/** envoy.filters.http.header_mutation: changes headers of requests and responses, their trailers, and query parameters. */
import { type AnyMessage, isMessage } from "../../../config/message.ts";
import type { KeyValueMutation } from "../../../config/schema/types/envoy.config.core.v3.d.ts";
import type {
  HeaderMutationPerRoute,
  HeaderMutation as Message,
  Mutations,
} from "../../../config/schema/types/envoy.extensions.filters.http.header_mutation.v3.d.ts";
import type { DecoderFilterCallbacks, FilterHeadersStatus, FilterTrailersStatus, HttpFilter } from "../../../http/filter.ts";
import type { RequestHeaders, ResponseHeaders, Trailers } from "../../../http/header-map.ts";
import { compileHeaderMutations, type HeaderMutation } from "../../../router/header-mutation.ts";
import type { CompileContext, Extension } from "../../extension.ts";
import { compileQueryMutations, type QueryMutation } from "./query.ts";

const pkg = "envoy.extensions.filters.http.header_mutation.v3.";
const typeName = `${pkg}HeaderMutation`;
const perRoute = `${pkg}HeaderMutationPerRoute`;

interface Compiled {
  readonly request: HeaderMutation | undefined;
  readonly response: HeaderMutation | undefined;
  readonly requestTrailers: HeaderMutation | undefined;
  readonly responseTrailers: HeaderMutation | undefined;
  readonly query: QueryMutation | undefined;
}

function compileMutations(message: Mutations | undefined, context: CompileContext): Compiled {
  return {
    request: compileHeaderMutations(message?.requestMutations ?? [], context),
    response: compileHeaderMutations(message?.responseMutations ?? [], context),
    requestTrailers: compileHeaderMutations(message?.requestTrailersMutations ?? [], context),
    responseTrailers: compileHeaderMutations(message?.responseTrailersMutations ?? [], context),
    query: compileQueryMutations(message?.queryParameterMutations ?? ([] as readonly KeyValueMutation[]), context),
  };
}

interface Settings {
  readonly own: Compiled;
  readonly mostSpecificWins: boolean;
}

class HeaderMutationFilter implements HttpFilter {
  readonly #settings: Settings;
  #callbacks!: DecoderFilterCallbacks;
  #requestHeaders: RequestHeaders | undefined;
  #responseHeaders: ResponseHeaders | undefined;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#callbacks = callbacks;
  }

  /** The filter's own first; then those of the route, where what is done last wins. */
  #all(): Compiled[] {
    const { own, mostSpecificWins } = this.#settings;
    const routes = this.#callbacks.routeConfigs<Compiled>();
    if (routes.length === 0) return [own];
    return [own, ...(mostSpecificWins ? routes : routes.toReversed())];
  }

  decodeHeaders(headers: RequestHeaders): FilterHeadersStatus {
    this.#requestHeaders = headers;
    const { streamInfo } = this.#callbacks;
    for (const { request, query } of this.#all()) {
      request?.evaluate(headers, streamInfo, headers, undefined);
      if (query !== undefined && headers.path !== undefined)
        headers.path = query(headers.path, {
          info: streamInfo,
          requestHeaders: headers,
          responseHeaders: undefined,
          responseTrailers: undefined,
          localReplyBody: "",
          accessLogType: "NotSet",
        });
    }
    return "continue";
  }

  decodeTrailers(trailers: Trailers): FilterTrailersStatus {
    for (const { requestTrailers } of this.#all()) requestTrailers?.evaluate(trailers, this.#callbacks.streamInfo, this.#requestHeaders, undefined);
    return "continue";
  }

  encodeHeaders(headers: ResponseHeaders): FilterHeadersStatus {
    this.#responseHeaders = headers;
    for (const { response } of this.#all()) response?.evaluate(headers, this.#callbacks.streamInfo, this.#requestHeaders, headers);
    return "continue";
  }

  encodeTrailers(trailers: Trailers): FilterTrailersStatus {
    for (const { responseTrailers } of this.#all())
      responseTrailers?.evaluate(trailers, this.#callbacks.streamInfo, this.#requestHeaders, this.#responseHeaders);
    return "continue";
  }
}

export default {
  honours: {
    [typeName]: "*",
    [perRoute]: "*",
    [`${pkg}Mutations`]: ["request_mutations", "query_parameter_mutations", "response_mutations", "response_trailers_mutations", "request_trailers_mutations"],
    "envoy.config.core.v3.KeyValueMutation": "*",
    "envoy.config.core.v3.KeyValueAppend": ["entry", "record", "action"],
    "envoy.config.core.v3.KeyValue": "*",
    "envoy.config.core.v3.KeyValuePair": "*",
  },
  httpFilter: {
    compile(message: AnyMessage, context) {
      if (!isMessage<Message>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const settings: Settings = { own: compileMutations(message.mutations, context), mostSpecificWins: message.mostSpecificHeaderMutationsWins };
      return () => new HeaderMutationFilter(settings);
    },
    compileRoute(message: AnyMessage, context): Compiled {
      if (!isMessage<HeaderMutationPerRoute>(message, perRoute)) throw new Error(`${message.$typeName} is no ${perRoute}`);
      return compileMutations(message.mutations, context);
    },
  },
} satisfies Extension;
