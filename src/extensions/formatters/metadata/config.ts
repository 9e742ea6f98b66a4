/** envoy.formatter.metadata: %METADATA(...)%, which is a built-in operator by now; naming the extension stays allowed. */
import type { Extension } from "../../extension.ts";

export default {
  honours: { "envoy.extensions.formatter.metadata.v3.Metadata": "*" },
  formatter: { compile: () => () => undefined },
} satisfies Extension;
