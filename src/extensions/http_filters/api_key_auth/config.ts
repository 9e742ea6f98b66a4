/** envoy.filters.http.api_key_auth: clients that name themselves by a key, in a header, a query parameter or a cookie. */
import { type AnyMessage, isMessage } from "../../../config/message.ts";
import type {
  ApiKeyAuth,
  ApiKeyAuthPerRoute,
  Credential,
  Forwarding,
  KeySource,
} from "../../../config/schema/types/envoy.extensions.filters.http.api_key_auth.v3.d.ts";
import type { DecoderFilterCallbacks, FilterHeadersStatus, HttpFilter } from "../../../http/filter.ts";
import type { RequestHeaders } from "../../../http/header-map.ts";
import { decodedQueryParameter } from "../../../matching/query-parameters.ts";
import { cookieValue } from "../../../router/cookie.ts";
import type { Counter } from "../../../stats/stats.ts";
import type { CompileContext, Extension } from "../../extension.ts";

const pkg = "envoy.extensions.filters.http.api_key_auth.v3.";
const typeName = `${pkg}ApiKeyAuth`;
const perRoute = `${pkg}ApiKeyAuthPerRoute`;

/** The part of a route, or of the filter; what is absent is that of the other. */
interface Settings {
  /** Client by key. */
  readonly clients: ReadonlyMap<string, string> | undefined;
  readonly sources: readonly Source[] | undefined;
  readonly forwarding: { readonly header: string; readonly hides: boolean } | undefined;
  readonly allowedClients: ReadonlySet<string> | undefined;
}

interface Source {
  find(headers: RequestHeaders): string | undefined;
  /** Takes the key out of the request. */
  hide(headers: RequestHeaders): void;
}

function compileClients(credentials: readonly Credential[], owner: object, context: CompileContext): ReadonlyMap<string, string> | undefined {
  if (credentials.length === 0) return undefined;
  const clients = new Map<string, string>();
  for (const { key, client } of credentials) {
    const bytes = Buffer.from(key).toString("latin1");
    // The key itself is a secret: it is not in the message.
    if (clients.has(bytes))
      context.report(owner, "credentials", { code: "OR3731", text: `Duplicated credential key of client '${client}'`, hint: "each key belongs to one client" });
    clients.set(bytes, client);
  }
  return clients;
}

const bearer = "Bearer ";

function compileSource(message: KeySource, context: CompileContext): Source | undefined {
  const header = message.header.toLowerCase();
  const { query, cookie } = message;
  if (header !== "")
    return {
      find(headers) {
        const value = headers.get(header);
        return value !== undefined && header === "authorization" && value.startsWith(bearer) ? value.slice(bearer.length) : value;
      },
      hide: (headers) => void headers.remove(header),
    };
  if (query !== "")
    return {
      find: (headers) => decodedQueryParameter(headers.path ?? "", query),
      hide(headers) {
        headers.path = withoutParameter(headers.path ?? "", query);
      },
    };
  // As with Envoy a cookie stays: it is part of a header that others need.
  if (cookie !== "") return { find: (headers) => cookieValue(headers, cookie), hide: () => {} };
  context.report(message, undefined, { code: "OR3731", text: "One of 'header'/'query'/'cookie' must be set.", hint: "say where the key is" });
  return undefined;
}

function withoutParameter(path: string, name: string): string {
  const at = path.indexOf("?");
  if (at < 0) return path;
  const rest = path
    .slice(at + 1)
    .split("&")
    .filter((part) => part !== name && !part.startsWith(`${name}=`))
    .join("&");
  return rest === "" ? path.slice(0, at) : `${path.slice(0, at)}?${rest}`;
}

function compileSettings(
  message: { readonly credentials: readonly Credential[]; readonly keySources: readonly KeySource[]; readonly forwarding?: Forwarding | undefined },
  allowed: readonly string[],
  context: CompileContext,
): Settings {
  const { forwarding } = message;
  return {
    clients: compileClients(message.credentials, message, context),
    sources: message.keySources.length === 0 ? undefined : message.keySources.flatMap((source) => compileSource(source, context) ?? []),
    forwarding: forwarding && { header: forwarding.header.toLowerCase(), hides: forwarding.hideCredentials },
    allowedClients: allowed.length === 0 ? undefined : new Set(allowed),
  };
}

interface Counts {
  readonly allowed: Counter;
  readonly unauthorized: Counter;
  readonly forbidden: Counter;
}

class ApiKeyFilter implements HttpFilter {
  readonly #own: Settings;
  readonly #counts: Counts;
  #callbacks!: DecoderFilterCallbacks;

  constructor(own: Settings, counts: Counts) {
    this.#own = own;
    this.#counts = counts;
  }

  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#callbacks = callbacks;
  }

  decodeHeaders(headers: RequestHeaders): FilterHeadersStatus {
    const route = this.#callbacks.routeConfig<Settings>();
    const clients = route?.clients ?? this.#own.clients;
    const sources = route?.sources ?? this.#own.sources;
    const forwarding = route?.forwarding ?? this.#own.forwarding;
    if (clients === undefined || sources === undefined || sources.length === 0)
      return this.#deny(401, clients === undefined ? "missing_credentials" : "missing_key_sources");
    let key = "";
    for (const source of sources) {
      key = source.find(headers) ?? "";
      if (key !== "") break;
    }
    if (key === "") return this.#deny(401, "missing_api_key");
    const client = clients.get(key);
    if (client === undefined) return this.#deny(401, "unknown_api_key");
    if (route?.allowedClients?.has(client) === false) return this.#deny(403, "client_not_allowed");
    if (forwarding?.hides === true) for (const source of sources) source.hide(headers);
    if (forwarding !== undefined && forwarding.header !== "") headers.set(forwarding.header, client);
    this.#counts.allowed.inc();
    return "continue";
  }

  #deny(status: 401 | 403, details: string): FilterHeadersStatus {
    (status === 401 ? this.#counts.unauthorized : this.#counts.forbidden).inc();
    const body = status === 401 ? "Client authentication failed." : "Client is forbidden.";
    this.#callbacks.sendLocalReply({ status, body, details });
    return "stop_all_and_watermark";
  }
}

export default {
  honours: { [typeName]: "*", [perRoute]: "*", [`${pkg}Credential`]: "*", [`${pkg}KeySource`]: "*", [`${pkg}Forwarding`]: "*" },
  httpFilter: {
    compile(message: AnyMessage, context, { scope }) {
      if (!isMessage<ApiKeyAuth>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const settings = compileSettings(message, [], context);
      const own = scope.scope("api_key_auth.");
      const counts: Counts = { allowed: own.counter("allowed"), unauthorized: own.counter("unauthorized"), forbidden: own.counter("forbidden") };
      return () => new ApiKeyFilter(settings, counts);
    },
    compileRoute(message: AnyMessage, context): Settings {
      if (!isMessage<ApiKeyAuthPerRoute>(message, perRoute)) throw new Error(`${message.$typeName} is no ${perRoute}`);
      return compileSettings(message, message.allowedClients, context);
    },
  },
} satisfies Extension;
