/** envoy.resource_monitors.fixed_heap: the memory of the process, of all its threads together, against a limit. */
import type { FixedHeapConfig } from "../../../config/schema/types/envoy.extensions.resource_monitors.fixed_heap.v3.d.ts";
import { memoryUsage } from "../../../os/memory-usage.ts";
import type { ResourceMonitor } from "../../../overload/compile.ts";
import type { Runtime } from "../../../runtime/runtime.ts";
import type { Extension } from "../../extension.ts";

/** What is resident counts: heaps of the threads, buffers outside of them, code. */
export class FixedHeapMonitor implements ResourceMonitor {
  readonly #limit: () => number;
  readonly #used: () => number;
  constructor(limit: () => number, used: () => number = () => memoryUsage().rss) {
    this.#limit = limit;
    this.#used = used;
  }
  read(): number {
    const limit = this.#limit();
    if (limit <= 0) throw new Error("the limit is 0");
    return this.#used() / limit;
  }
}

export default {
  honours: { "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig": "*", "envoy.config.core.v3.RuntimeUInt64": "*" },
  resourceMonitor: {
    compile(any, context) {
      const message = any as FixedHeapConfig;
      const byRuntime = message.maxHeapSizeBytesRuntime;
      const configured = Number(byRuntime?.defaultValue ?? message.maxHeapSizeBytes);
      if (configured === 0)
        context.report(message, byRuntime === undefined ? "max_heap_size_bytes" : "max_heap_size_bytes_runtime", {
          code: "OR3061",
          text: "fixed_heap: max heap size must be greater than 0",
          hint: "max_heap_size_bytes: 2147483648",
        });
      const key = byRuntime?.runtimeKey ?? "";
      return ({ runtime }: { readonly runtime: Runtime }) => new FixedHeapMonitor(() => runtime.snapshot.integer(key, configured));
    },
  },
} satisfies Extension;
