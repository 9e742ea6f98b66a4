/** request_mirror_policies: copies of the request, sent on as it comes; what they are answered is dropped. */
import type { ResponseDecoder, StreamCallbacks } from "../../http/codec.ts";
import type { DecoderFilterCallbacks } from "../../http/filter.ts";
import type { RequestHeaders, Trailers } from "../../http/header-map.ts";
import type { AsyncStream } from "../../upstream/upstream.ts";
import type { ForwardRoute } from "../route.ts";
import type { RouterConfig } from "./router-config.ts";

/** Hears the end of a mirror that failed, so that nothing more is sent to it. */
class ShadowSink implements ResponseDecoder, Pick<StreamCallbacks, "onResetStream"> {
  dead = false;
  decode1xxHeaders(): void {}
  decodeHeaders(): void {}
  decodeData(): void {}
  decodeTrailers(): void {}
  onResetStream(): void {
    this.dead = true;
  }
}

interface Shadow {
  readonly stream: AsyncStream;
  readonly sink: ShadowSink;
  readonly headers: RequestHeaders;
}

export class ShadowStreams {
  #shadows: readonly Shadow[];

  private constructor(shadows: readonly Shadow[]) {
    this.#shadows = shadows;
  }

  /** Undefined where no policy takes this request. */
  static start(
    route: ForwardRoute,
    headers: RequestHeaders,
    callbacks: DecoderFilterCallbacks,
    config: RouterConfig,
    timeoutMs: number,
  ): ShadowStreams | undefined {
    const shadows: Shadow[] = [];
    const random = Math.floor(config.random() * 0x1_0000_0000);
    for (const policy of route.mirrors) {
      if (!policy.isEnabled(random)) continue;
      const name = policy.cluster(headers);
      const cluster = name === undefined || name === "" ? undefined : callbacks.clusters.get(name);
      if (cluster === undefined) continue;
      const copy = headers.clone();
      policy.mutateHeaders(copy, callbacks.streamInfo);
      if (policy.hostRewriteLiteral !== "") copy.authority = policy.hostRewriteLiteral;
      else if (!policy.disableShadowHostSuffixAppend && copy.authority !== undefined && copy.authority !== "") copy.authority = shadowHost(copy.authority);
      const sink = new ShadowSink();
      const stream = cluster.httpClient.start(
        { timeoutMs: timeoutMs > 0 ? timeoutMs : undefined, discardResponse: true, isShadow: true, parentStreamInfo: callbacks.streamInfo },
        sink,
      );
      shadows.push({ stream, sink, headers: copy });
    }
    return shadows.length === 0 ? undefined : new ShadowStreams(shadows);
  }

  sendHeaders(endStream: boolean): void {
    for (const { stream, sink, headers } of this.#shadows) if (!sink.dead) stream.sendHeaders(headers, endStream);
    if (endStream) this.#shadows = [];
  }

  sendData(data: Buffer, endStream: boolean): void {
    for (const { stream, sink } of this.#shadows) if (!sink.dead) stream.sendData(Buffer.from(data), endStream);
    if (endStream) this.#shadows = [];
  }

  sendTrailers(trailers: Trailers): void {
    for (const { stream, sink } of this.#shadows) if (!sink.dead) stream.sendTrailers(trailers);
    this.#shadows = [];
  }

  /** The request ended before its end: so do its copies. Those that were sent whole go on. */
  cancel(): void {
    const shadows = this.#shadows;
    this.#shadows = [];
    for (const { stream, sink } of shadows) if (!sink.dead) stream.reset();
  }
}

/** "a.test:80" to "a.test-shadow:80", so that the mirror's logs show what it is. */
export function shadowHost(host: string): string {
  const colon = host.lastIndexOf(":");
  return colon < 0 || host.endsWith("]") ? `${host}-shadow` : `${host.slice(0, colon)}-shadow${host.slice(colon)}`;
}
