/**
 * envoy.http.stateful_header_formatters.preserve_case: field names leave as they came. The HTTP/1 codec keeps the names while it reads
 * (HeaderMap.rawNames) and writes them wherever a map has them; this module only says so.
 */
import type { Extension } from "../../../extension.ts";

export default {
  // Not forward_reason_phrase, and of formatter_type_on_envoy_headers only the default: names that nobody sent are in lower case.
  honours: { "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig": [] },
  other: { nameFormat: "preserve" },
} satisfies Extension;
