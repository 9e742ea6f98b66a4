/** envoy.formatter.req_without_query: %REQ_WITHOUT_QUERY(X?Y):Z%, a request header without what stands behind "?". */

import type { Operator } from "../../../formatter/formatter.ts";
import { headerOperators } from "../../../formatter/operators/headers.ts";
import { FormatError, truncate } from "../../../formatter/operators/operator.ts";
import type { Extension, FormatterCommandParser } from "../../extension.ts";

const parse: FormatterCommandParser = (command, argument, maxLength): Operator | undefined => {
  if (command !== "REQ_WITHOUT_QUERY") return undefined;
  if (argument === "") throw new FormatError("REQ_WITHOUT_QUERY requires parameters");
  const header = headerOperators.REQ.make(argument, undefined, {
    context: undefined,
    compile: () => {
      throw new FormatError("REQ_WITHOUT_QUERY takes no operators");
    },
  });
  return {
    text(context) {
      const value = header.text(context);
      if (value === undefined) return undefined;
      const query = value.indexOf("?");
      return truncate(query < 0 ? value : value.slice(0, query), maxLength);
    },
  };
};

export default {
  honours: { "envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery": "*" },
  formatter: { compile: () => parse },
} satisfies Extension;
