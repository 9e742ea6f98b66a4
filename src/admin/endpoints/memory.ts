/** /memory and /memory/tcmalloc: V8's heaps of all threads, in the words of Envoy's allocator. */
import { getHeapSpaceStatistics, getHeapStatistics } from "node:v8";
import { memoryUsage } from "../../os/memory-usage.ts";
import { type AdminEndpoint, json, text } from "../request.ts";

export const memory: AdminEndpoint = {
  path: "/memory",
  help: "print current allocation/heap usage",
  handle: async ({ server }) => {
    const own = getHeapStatistics();
    const workers = await server.workerHeaps();
    const sum = (name: "used_heap_size" | "total_heap_size") => own[name] + workers.reduce((total, heap) => total + heap[name], 0);
    const usage = memoryUsage();
    const allocated = sum("used_heap_size");
    const heapSize = sum("total_heap_size");
    return json({
      // Buffers live outside of V8's heaps.
      allocated: String(allocated + usage.external),
      heap_size: String(heapSize + usage.external),
      pageheap_unmapped: "0",
      pageheap_free: String(Math.max(heapSize - allocated, 0)),
      total_thread_cache: "0",
      total_physical_bytes: String(usage.rss),
    });
  },
};

export const tcmalloc: AdminEndpoint = {
  path: "/memory/tcmalloc",
  help: "print TCMalloc stats",
  handle: async ({ server }) => {
    const mib = (bytes: number) => `${String(bytes).padStart(14)} (${(bytes / 1048576).toFixed(1).padStart(7)} MiB)`;
    const usage = memoryUsage();
    const own = getHeapStatistics();
    const lines = [
      "Memory of this process: the allocator is V8's, one heap a thread.",
      "------------------------------------------------",
      `PROCESS:  ${mib(usage.rss)} Resident`,
      `EXTERNAL: ${mib(usage.external)} Buffers outside of the heaps, of which`,
      `EXTERNAL: ${mib(usage.arrayBuffers)} are array buffers`,
      `MAIN:     ${mib(own.used_heap_size)} Bytes in use by the main thread`,
      `MAIN:     ${mib(own.total_heap_size)} Heap of the main thread`,
      `MAIN:     ${mib(own.heap_size_limit)} Limit of the main thread's heap`,
      `MAIN:     ${mib(own.malloced_memory)} Bytes that V8 itself has allocated`,
    ];
    for (const [index, heap] of (await server.workerHeaps()).entries()) {
      lines.push(`WORKER ${index}: ${mib(heap.used_heap_size)} Bytes in use`, `WORKER ${index}: ${mib(heap.total_heap_size)} Heap`);
    }
    lines.push("------------------------------------------------", "Spaces of the main thread's heap: used, size");
    for (const space of getHeapSpaceStatistics()) lines.push(`${space.space_name.padEnd(24)} ${mib(space.space_used_size)} ${mib(space.space_size)}`);
    return { ...text(`${lines.join("\n")}\n`), contentType: "text/plain" };
  },
};
