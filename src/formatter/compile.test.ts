import assert from "node:assert/strict";
import { test } from "node:test";
import type { JsonObject } from "../config/message.ts";
import { compileFormat, compileJson, defaultFormat, operatorNames } from "./compile.ts";
import type { FormatContext } from "./formatter.ts";
import { testContext } from "./testing.ts";

const format = (text: string, context: FormatContext = testContext(), omitEmpty = false): string =>
  compileFormat(text, undefined, { omitEmpty }).format(context);
const json = (form: JsonObject, context: FormatContext = testContext(), options: { omitEmpty?: boolean; sortProperties?: boolean } = {}): string =>
  compileJson(form, undefined, options).format(context);
const refuses = (text: string, message: string): void => assert.throws(() => compileFormat(text, undefined), { message });

test("the default format is Envoy's", () => {
  const context = testContext({
    path: "/x?y=1",
    requestHeaders: ["user-agent", "agent/1", "x-request-id", "rid", "x-forwarded-for", "1.2.3.4"],
    responseHeaders: ["x-envoy-upstream-service-time", "7"],
  });
  assert.equal(format(defaultFormat, context), '[2026-02-01T03:04:05.006Z] "GET /x?y=1 HTTP/1.1" 200 - 3 5 250 7 "1.2.3.4" "agent/1" "rid" "a.test" "-"\n');
});

test("literals, escapes and absent values", () => {
  assert.equal(format("100%% <%REQ(X-NONE)%>"), "100% <->");
  assert.equal(format("<%REQ(x-none)%>", testContext(), true), "<>");
  assert.equal(format(""), "");
  assert.equal(format("ü"), "\xc3\xbc", "text becomes UTF-8 bytes");
});

test("header operators: alternatives, length, pseudo-headers, case", () => {
  const context = testContext({
    requestHeaders: ["x-one", "first", "x-one", "second"],
    responseHeaders: ["x-long", "abcdefghij"],
    trailers: ["x-out", "down"],
  });
  assert.equal(
    format("%REQ(X-ONE)%|%REQ(X-NONE?X-ONE)%|%REQ(x-one):2%|%RESP(X-LONG):4%|%REQ(:AUTHORITY)%|%RESP(:status)%|%TRAILER(x-out)%|%REQ(:path):0%", context),
    "first|first|fi|abcd|a.test|200|down|",
  );
});

test("the same mistakes are refused in the same words", () => {
  refuses("%NOPE%", "Not supported field in StreamInfo: NOPE");
  refuses("%REQ%", "REQ requires parameters");
  refuses("%PROTOCOL:3%", "PROTOCOL does not take any parameters or length");
  refuses("%START_TIME():3%", "START_TIME does not allow length to be specified.");
  refuses("100%", "Incorrect configuration: 100%. Couldn't find valid command at position 3");
  refuses("%req(a)%", "Incorrect configuration: %req(a)%. Couldn't find valid command at position 0");
  refuses("%REQ(a?b?c)%", "More than 1 alternative header specified in token: a?b?c");
  refuses("%REQ(a b)%", "Invalid header configuration. Format string contains invalid characters.");
  refuses("%START_TIME(%Y\n)%", "Invalid header configuration. Format string contains newline.");
  refuses("%COMMON_DURATION(DS_RX_BEG)%", "Invalid common duration configuration: DS_RX_BEG.");
  refuses("%GRPC_STATUS(X)%", "GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. Got: X");
  refuses("%METADATA(NOPE:a)%", "NOPE is not supported type of metadata");
  refuses("%FILTER_STATE(a:NOPE)%", "Invalid filter state serialize type, only support PLAIN/TYPED/FIELD.");
  refuses('%COALESCE({"operators":[{"command":"NOPE"}]})%', "COALESCE: failed to parse operator at index 0: unknown command: 'NOPE'");
});

test("a finding stands at the field where one is given", () => {
  const found: unknown[] = [];
  const at = {};
  const context = { report: (...args: unknown[]) => found.push(args) } as never;
  assert.equal(compileFormat("%NOPE%", context, { at, field: "text_format" }).format(testContext()), "");
  assert.deepEqual(found, [[at, "text_format", { code: "OR2101", text: "Not supported field in StreamInfo: NOPE" }]]);
});

test("times in all their forms", () => {
  assert.equal(
    format(
      "%START_TIME(%s)%|%START_TIME(%Y/%m/%dT%H:%M:%S%z)%|%START_TIME(%s.%3f)%|%START_TIME(%6f)%|%START_TIME(%f)%|%START_TIME(%E3S|%E*S|%Ez|%e|%j|%a|%B|%p|%I)%",
    ),
    "1769915045|2026/02/01T03:04:05+0000|1769915045.006|006000|006000000|05.006|05.006|+00:00| 1|032|Sun|February|AM|03",
  );
});

test("durations between named moments", () => {
  const context = testContext({}, (info) => {
    info.lastDownstreamRxByteMs = 1010;
    info.lastDownstreamTxByteMs = 1240.5;
    info.customTimes = new Map([["mine", 1100]]);
  });
  assert.equal(
    format(
      "%REQUEST_DURATION% %COMMON_DURATION(DS_RX_BEG:DS_TX_END)% %COMMON_DURATION(DS_RX_END:DS_TX_END:us)% %COMMON_DURATION(mine:DS_TX_END:ms)% %COMMON_DURATION(US_CX_BEG:DS_TX_END)% %RESPONSE_DURATION%",
      context,
    ),
    "10 240 230500 140 - -",
  );
});

test("flags and details", () => {
  const context = testContext({}, (info) => {
    info.setFlag("UF");
    info.setFlag("URX");
    info.responseCodeDetails = "a b\tc";
  });
  assert.equal(
    format("%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG% %RESPONSE_CODE_DETAILS% %RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%", context),
    "UF,URX UpstreamConnectionFailure,UpstreamRetryLimitExceeded a_b_c a b\tc",
  );
});

test("gRPC status of gRPC requests only", () => {
  const grpc = testContext({ requestHeaders: ["content-type", "application/grpc+proto"], trailers: ["grpc-status", "5"] });
  assert.equal(format("%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER%", grpc), "NotFound NOT_FOUND 5");
  assert.equal(format("%GRPC_STATUS%", testContext({ trailers: ["grpc-status", "5"] })), "-");
});

test("paths and queries", () => {
  const context = testContext({ path: "/p%20?a=1&b=x%20y", requestHeaders: ["x-envoy-original-path", "/old?q"] });
  assert.equal(
    format("%PATH% %PATH(NQ)% %PATH(WQ:PATH)% %PATH(NQ:PATH)% %QUERY_PARAM(b)% %QUERY_PARAM(c)% %QUERY_PARAMS% %QUERY_PARAMS(DECODED):5%", context),
    "/old?q /old /p%20?a=1&b=x%20y /p%20 x y - a=1&b=x%20y a=1&b",
  );
});

test("masked addresses", () => {
  const context = testContext({}, (info) => {
    info.downstreamRemoteAddress = { kind: "ip", ip: "10.1.2.3", port: 80, family: 4, text: "10.1.2.3:80" };
    info.downstreamLocalAddress = { kind: "ip", ip: "2001:db8:1:2::3", port: 80, family: 6, text: "[2001:db8:1:2::3]:80" };
  });
  assert.equal(
    format(
      "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(16)% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(48)% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_PORT%",
      context,
    ),
    "10.1.0.0/16 2001:db8:1::/48 2001:db8:1:2::3 80",
  );
});

test("metadata and filter state", () => {
  const context = testContext({}, (info) => {
    info.setDynamicMetadata("ns", { a: "text", n: 5, deep: { k: ["x", true] } });
    info.setFilterState("my.key", { serializeAsString: () => "state", serializeAsJson: () => "state", field: (name) => `f:${name}` });
  });
  assert.equal(
    format(
      "%DYNAMIC_METADATA(ns:a)%|%DYNAMIC_METADATA(ns:n)%|%METADATA(DYNAMIC:ns:deep)%|%DYNAMIC_METADATA(ns:deep:k):3%|%DYNAMIC_METADATA(ns:none)%",
      context,
    ),
    'text|5|{"k":["x",true]}|["x|-',
  );
  assert.equal(
    format("%FILTER_STATE(my.key:PLAIN)%|%FILTER_STATE(my.key)%|%FILTER_STATE(my.key:FIELD:x)%|%FILTER_STATE(none)%", context),
    'state|"state"|f:x|-',
  );
});

test("COALESCE takes the first operator with a value", () => {
  assert.equal(
    format(
      '%COALESCE({"operators":[{"command":"REQ","param":"x-none"},"PROTOCOL"]})%|%COALESCE({"operators":[{"command":"REQ","param":":path","max_length":2}]})%',
    ),
    "HTTP/1.1|/p",
  );
});

test("JSON formats keep types, nest and escape", () => {
  const context = testContext({ requestHeaders: ["x-quote", 'say "hi"\\ \t.'] });
  assert.equal(
    json(
      {
        code: "%RESPONSE_CODE%",
        text: "c=%RESPONSE_CODE%",
        none: "%REQ(x-none)%",
        mixed: "[%REQ(x-none)%]",
        deep: { list: ["%PROTOCOL%", "const", 1.5, null, true] },
        q: "%REQ(x-quote)%",
        empty: "",
      },
      context,
    ),
    '{"code":200,"text":"c=200","none":null,"mixed":"[-]","deep":{"list":["HTTP/1.1","const",1.5,null,true]},"q":"say \\"hi\\"\\\\ \\t.","empty":""}\n',
  );
});

test("JSON formats leave out what is empty and sort keys when told to", () => {
  assert.equal(
    json({ b: "%PROTOCOL%", a: "%REQ(x-none)%", c: "<%REQ(x-none)%>" }, testContext(), { omitEmpty: true, sortProperties: true }),
    '{"b":"HTTP/1.1","c":"<>"}\n',
  );
});

test("every operator can be compiled and copes with a stream of which nothing is known", () => {
  const required: Record<string, string> = {
    COMMON_DURATION: "DS_RX_BEG:DS_TX_END",
    COALESCE: '{"operators":["PROTOCOL"]}',
    METADATA: "ROUTE:x",
    FILTER_STATE: "x",
    UPSTREAM_FILTER_STATE: "x",
  };
  const bare: FormatContext = {
    info: testContext({}, (info) => (info.responseCode = undefined)).info,
    requestHeaders: undefined,
    responseHeaders: undefined,
    responseTrailers: undefined,
    localReplyBody: "",
    accessLogType: "NotSet",
  };
  for (const name of operatorNames()) {
    let text = `%${name}%`;
    if (required[name] !== undefined) text = `%${name}(${required[name]})%`;
    else {
      try {
        compileFormat(text, undefined);
      } catch {
        text = `%${name}(x-a)%`;
      }
    }
    assert.equal(typeof format(text, bare), "string", name);
    assert.doesNotThrow(() => JSON.parse(json({ v: text }, bare)), name);
  }
});
