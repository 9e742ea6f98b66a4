/** envoy.filters.http.basic_auth: user name and password (RFC 7617), checked against a list in the htpasswd format with SHA-1. */
import { createHash, timingSafeEqual } from "node:crypto";
import { type AnyMessage, isMessage } from "../../../config/message.ts";
import type { DataSource } from "../../../config/schema/types/envoy.config.core.v3.d.ts";
import type { BasicAuth, BasicAuthPerRoute } from "../../../config/schema/types/envoy.extensions.filters.http.basic_auth.v3.d.ts";
import type { DecoderFilterCallbacks, FilterHeadersStatus, HttpFilter } from "../../../http/filter.ts";
import type { RequestHeaders } from "../../../http/header-map.ts";
import { readDataSource } from "../../../net/tls/data-source.ts";
import type { Counter } from "../../../stats/stats.ts";
import type { CompileContext, Extension } from "../../extension.ts";

const pkg = "envoy.extensions.filters.http.basic_auth.v3.";
const typeName = `${pkg}BasicAuth`;
const perRoute = `${pkg}BasicAuthPerRoute`;
const metadataName = "envoy.filters.http.basic_auth";

/** SHA-1 of the password by user name. */
type Users = ReadonlyMap<string, Buffer>;

interface RouteSettings {
  readonly users: Users;
  readonly realm: string;
}

/** undefined where a finding says what is wrong; passwords do not get into it. */
function readUsers(source: DataSource | undefined, owner: object, context: CompileContext): Users {
  const users = new Map<string, Buffer>();
  const text = readDataSource(source, context)?.toString("latin1") ?? "";
  const refuse = (line: number, why: string): void =>
    context.report(owner, "users", {
      code: "OR3730",
      text: `basic auth: line ${line} of users: ${why}`,
      hint: "htpasswd -s makes lines as they are wanted: NAME:{SHA}HASH",
    });
  for (const [index, raw] of text.split("\n").entries()) {
    const line = raw.trim();
    if (line === "" || line.startsWith("#")) continue;
    const colon = line.indexOf(":");
    const name = line.slice(0, Math.max(0, colon));
    const hash = /^\{SHA\}([A-Za-z0-9+/]{27}=)$/.exec(line.slice(colon + 1));
    if (colon <= 0) refuse(index + 1, "invalid htpasswd format");
    else if (users.has(name)) refuse(index + 1, "duplicate users");
    else if (hash === null) refuse(index + 1, "unsupported htpasswd format: please use {SHA}");
    else users.set(name, Buffer.from(hash[1], "base64"));
  }
  return users;
}

interface Settings extends RouteSettings {
  readonly forwardUsernameHeader: string;
  readonly header: string;
  readonly allowMissing: boolean;
  readonly emitsMetadata: boolean;
  readonly allowed: Counter;
  readonly denied: Counter;
}

const nobody = Buffer.alloc(20);

class BasicAuthFilter implements HttpFilter {
  readonly #settings: Settings;
  #callbacks!: DecoderFilterCallbacks;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#callbacks = callbacks;
  }

  decodeHeaders(headers: RequestHeaders): FilterHeadersStatus {
    const settings = this.#settings;
    const { users } = this.#callbacks.routeConfig<RouteSettings>() ?? settings;
    const given = headers.get(settings.header);
    if (given === undefined) {
      if (settings.allowMissing) return "continue";
      return this.#deny(headers, "User authentication failed. Missing username and password.", "no_credential_for_basic_auth");
    }
    if (!/^basic /i.test(given))
      return this.#deny(headers, "User authentication failed. Expected 'Basic' authentication scheme.", "invalid_scheme_for_basic_auth");
    const decoded = Buffer.from(given.slice(6).trim(), "base64").toString("latin1");
    const colon = decoded.indexOf(":");
    if (colon < 0) return this.#deny(headers, "User authentication failed. Invalid basic credential format.", "invalid_format_for_basic_auth");
    const name = decoded.slice(0, colon);
    const hash = createHash("sha1")
      .update(Buffer.from(decoded.slice(colon + 1), "latin1"))
      .digest();
    const known = users.get(name);
    // The time that this takes tells nobody which names there are.
    const isRight = timingSafeEqual(hash, known ?? nobody) && known !== undefined;
    if (!isRight) return this.#deny(headers, "User authentication failed. Invalid username/password combination.", "invalid_credential_for_basic_auth");
    if (settings.forwardUsernameHeader !== "") headers.set(settings.forwardUsernameHeader, name);
    if (settings.emitsMetadata) this.#callbacks.streamInfo.setDynamicMetadata(metadataName, { username: Buffer.from(name, "latin1").toString("utf8") });
    settings.allowed.inc();
    return "continue";
  }

  #deny(headers: RequestHeaders, body: string, details: string): FilterHeadersStatus {
    const settings = this.#settings;
    settings.denied.inc();
    const { realm: routeRealm } = this.#callbacks.routeConfig<RouteSettings>() ?? settings;
    const realm = routeRealm !== "" ? routeRealm : `${headers.scheme ?? "http"}://${headers.authority ?? ""}${headers.path ?? "/"}`;
    this.#callbacks.sendLocalReply({
      status: 401,
      body,
      details,
      modifyHeaders: (response) => response.set("www-authenticate", `Basic realm="${realm.replaceAll(/["\\]/g, "\\$&")}"`),
    });
    return "stop_all_and_watermark";
  }
}

export default {
  honours: { [typeName]: "*", [perRoute]: "*" },
  httpFilter: {
    compile(message: AnyMessage, context, { scope }) {
      if (!isMessage<BasicAuth>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const own = scope.scope("basic_auth.");
      const settings: Settings = {
        users: readUsers(message.users, message, context),
        realm: message.realm,
        forwardUsernameHeader: message.forwardUsernameHeader.toLowerCase(),
        header: message.authenticationHeader === "" ? "authorization" : message.authenticationHeader.toLowerCase(),
        allowMissing: message.allowMissing,
        emitsMetadata: message.emitDynamicMetadata,
        allowed: own.counter("allowed"),
        denied: own.counter("denied"),
      };
      return () => new BasicAuthFilter(settings);
    },
    compileRoute(message: AnyMessage, context): RouteSettings {
      if (!isMessage<BasicAuthPerRoute>(message, perRoute)) throw new Error(`${message.$typeName} is no ${perRoute}`);
      return { users: readUsers(message.users, message, context), realm: message.realm };
    },
  },
} satisfies Extension;
