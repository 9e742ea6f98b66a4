/** ssl.*: names as Envoy's SslStats. */
import type { TLSSocket } from "node:tls";
import type { Counter, StatsScope } from "../../stats/stats.ts";
import type { Verdict } from "./validation.ts";

export class TlsStats {
  readonly #scope: StatsScope;
  readonly #connectionError: Counter;
  readonly #handshake: Counter;
  readonly #sessionReused: Counter;
  readonly #noCertificate: Counter;
  readonly #failures: Readonly<Record<NonNullable<Verdict["failure"]>, Counter>>;
  /** Counters of ciphers, versions and curves appear when first seen; all are of small fixed sets. */
  readonly #seen = new Map<string, Counter>();

  constructor(scope: StatsScope) {
    this.#scope = scope.scope("ssl.");
    const counter = (name: string): Counter => this.#scope.counter(name);
    this.#connectionError = counter("connection_error");
    this.#handshake = counter("handshake");
    this.#sessionReused = counter("session_reused");
    this.#noCertificate = counter("no_certificate");
    this.#failures = {
      fail_verify_no_cert: counter("fail_verify_no_cert"),
      fail_verify_error: counter("fail_verify_error"),
      fail_verify_san: counter("fail_verify_san"),
      fail_verify_cert_hash: counter("fail_verify_cert_hash"),
    };
    for (const name of ["ocsp_staple_failed", "ocsp_staple_omitted", "ocsp_staple_responses", "ocsp_staple_requests", "was_key_usage_invalid"]) counter(name);
  }

  failed(failure: NonNullable<Verdict["failure"]>): void {
    this.#failures[failure].inc();
  }

  connectionError(): void {
    this.#connectionError.inc();
  }

  /** A handshake came to its end and the peer was taken. `group`: key exchange, where it is known. */
  completed(socket: TLSSocket, presented: boolean, group: string | undefined): void {
    this.#handshake.inc();
    if (socket.isSessionReused()) this.#sessionReused.inc();
    if (!presented) this.#noCertificate.inc();
    const cipher = socket.getCipher()?.name;
    const version = socket.getProtocol();
    if (cipher !== undefined) this.#count(`ciphers.${cipher}`);
    if (version !== null) this.#count(`versions.${version}`);
    if (group !== undefined) this.#count(`curves.${group}`);
  }

  #count(name: string): void {
    let counter = this.#seen.get(name);
    if (counter === undefined) this.#seen.set(name, (counter = this.#scope.counter(name)));
    counter.inc();
  }
}
