/** Any text as an access log format: it is refused with a FormatError, or prints bytes for a stream with everything and for one with nothing. */
import type { FuzzTarget } from "../testing/fuzz.ts";
import { compileFormat, compileJson, defaultFormat, operatorNames } from "./compile.ts";
import { FormatError } from "./operators/operator.ts";
import { testContext } from "./testing.ts";

const full = testContext({
  requestHeaders: ["x-one", "first", "x-two", "\xff\x00\n", "user-agent", "agent/1", "x-forwarded-for", "1.2.3.4"],
  responseHeaders: ["content-type", "text/plain", "x-envoy-upstream-service-time", "7", "grpc-status", "5"],
  trailers: ["grpc-status", "99"],
  body: "body",
});
const empty = testContext();

const target: FuzzTarget = {
  maxBytes: 512,
  seeds: [
    defaultFormat,
    "100%% %REQ(X-NONE?X-ONE):2%|%RESP(:status)%|%TRAILER(grpc-status)%",
    "%START_TIME(%Y/%m/%dT%H:%M:%S.%3f%z %s %E*S %j)%|%EMIT_TIME(%6f)%",
    "%COMMON_DURATION(DS_RX_BEG:US_TX_END:ms)%|%GRPC_STATUS(CAMEL_STRING)%|%DYNAMIC_METADATA(a:b:c):10%|%FILTER_STATE(k:PLAIN):3%",
    '%COALESCE({"operators":["REQ(a)",{"command":"REQ","param":":authority","max_length":3}]})%',
    ...operatorNames().map((name) => `%${name}%|%${name}(X)%|%${name}(X:Y):3%`),
  ],
  dictionary: [
    ...operatorNames().flatMap((name) => [name, `%${name}%`]),
    "%",
    "%%",
    "(",
    ")",
    ":",
    ":1",
    "?",
    ":path",
    "X-ONE",
    "DS_RX_BEG",
    "%f",
    "%E3S",
    "\ud83d\ude00",
    "\n",
  ],
  run(input) {
    const text = Buffer.from(input).toString("utf8");
    try {
      const formatter = compileFormat(text, undefined);
      bytes(formatter.format(full));
      bytes(formatter.format(empty));
      const line = compileJson({ a: text, b: [text, { c: 1 }] }, undefined).format(full);
      bytes(line);
      JSON.parse(Buffer.from(line, "latin1").toString("utf8"));
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
    }
  },
};
export default target;

function bytes(text: string): void {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0xff) throw new Error(`no byte: ${text.charCodeAt(i)} at ${i}`);
}
