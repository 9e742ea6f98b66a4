/** The process's memory, also while it has no descriptor left: Node opens a file of /proc to tell what is resident. */
let last: NodeJS.MemoryUsage | undefined;

/** As `process.memoryUsage`, of which `read` is the source; what was known before where it fails with EMFILE or ENFILE. All bytes. */
export function memoryUsage(read: () => NodeJS.MemoryUsage = process.memoryUsage): NodeJS.MemoryUsage {
  try {
    last = read();
    return last;
  } catch {
    return last ?? { rss: 0, heapTotal: 0, heapUsed: 0, external: 0, arrayBuffers: 0 };
  }
}
