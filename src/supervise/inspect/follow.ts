/** Tells when something changes in folders, by inotify; where that is not to be had, once a second. */
import { type FSWatcher, watch } from "node:fs";

const POLL_MS = 1000;

/** Calls `onChange` after changes in any of the directories, never while it still runs. Returns what ends it. */
export function watchDirectories(directories: readonly string[], onChange: () => void): () => void {
  let isDue = false;
  const wake = (): void => {
    if (isDue) return;
    isDue = true;
    // What else has been notified by now is answered with the same look.
    setImmediate(() => {
      isDue = false;
      onChange();
    });
  };
  const watchers: FSWatcher[] = [];
  let timer: NodeJS.Timeout | undefined;
  const poll = (): void => void (timer ??= setInterval(wake, POLL_MS));
  for (const directory of directories) {
    try {
      const watcher = watch(directory, wake);
      watcher.on("error", poll);
      watchers.push(watcher);
    } catch {
      poll(); // no more watches to be had, or a file system without them
    }
  }
  return () => {
    clearInterval(timer);
    for (const watcher of watchers) watcher.close();
  };
}
