/**
 * Finds the first route whose path condition holds without trying them one by one.
 *
 * Exact paths are in a map, prefixes in a radix tree; what neither can hold (regular expressions, templates, ignored case, CONNECT) is a
 * list of scanned entries. A path gives a few sorted lists of route numbers, which are merged so that the order of the configuration decides.
 */

/** A path condition that has to be tried: `path` without query; undefined where the request has none (CONNECT). */
export type PathTest = (path: string | undefined) => boolean;

interface TreeNode {
  /** The text on the way from the parent to here. */
  label: string;
  /** By first character of their labels. */
  children: Map<number, TreeNode> | undefined;
  /** Routes whose prefix ends here. */
  prefixes: number[] | undefined;
  /** Routes whose path-separated prefix ends here. */
  separated: number[] | undefined;
}

function newNode(label: string): TreeNode {
  return { label, children: undefined, prefixes: undefined, separated: undefined };
}

const slash = 47;

export class PathIndex {
  readonly #exact = new Map<string, number[]>();
  readonly #root = newNode("");
  #hasTree = false;
  readonly #scanned: number[] = [];
  readonly #tests: PathTest[] = [];
  /** Working memory of a match: the sorted lists that apply, and how far each has been read. */
  readonly #lists: number[][] = [];
  readonly #positions: number[] = [];

  addExact(path: string, route: number): void {
    const list = this.#exact.get(path);
    if (list === undefined) this.#exact.set(path, [route]);
    else list.push(route);
  }

  addPrefix(prefix: string, route: number): void {
    const node = this.#insert(prefix);
    node.prefixes ??= [];
    node.prefixes.push(route);
  }

  /** A prefix that must be followed by "/" or the end. */
  addSeparatedPrefix(prefix: string, route: number): void {
    const node = this.#insert(prefix);
    node.separated ??= [];
    node.separated.push(route);
  }

  addTest(test: PathTest, route: number): void {
    this.#scanned.push(route);
    this.#tests.push(test);
  }

  /**
   * The smallest route number whose path condition holds and that `accept` takes; -1 for none. Numbers must have been added in rising order.
   * `accept` must not call back into this index.
   */
  first(path: string | undefined, accept: (route: number) => boolean): number {
    const lists = this.#lists;
    const positions = this.#positions;
    let count = 0;
    if (path !== undefined) {
      const exact = this.#exact.size === 0 ? undefined : this.#exact.get(path);
      if (exact !== undefined) {
        lists[count] = exact;
        positions[count++] = 0;
      }
      if (this.#hasTree) count = this.#collect(path, count);
    }
    const scanned = this.#scanned;
    const tests = this.#tests;
    let scanAt = 0;
    for (;;) {
      let best = -1;
      let bestList = -1;
      for (let i = 0; i < count; i++) {
        const position = positions[i];
        if (position >= lists[i].length) continue;
        const route = lists[i][position];
        if (best < 0 || route < best) {
          best = route;
          bestList = i;
        }
      }
      // Scanned entries in front of the best indexed one are tried first.
      while (scanAt < scanned.length && (best < 0 || scanned[scanAt] < best)) {
        const route = scanned[scanAt];
        if (tests[scanAt](path) && accept(route)) return route;
        scanAt++;
      }
      if (best < 0) return -1;
      if (accept(best)) return best;
      positions[bestList]++;
    }
  }

  #collect(path: string, from: number): number {
    const lists = this.#lists;
    const positions = this.#positions;
    let count = from;
    let node = this.#root;
    let at = 0;
    for (;;) {
      if (node.prefixes !== undefined) {
        lists[count] = node.prefixes;
        positions[count++] = 0;
      }
      if (node.separated !== undefined && (at === path.length || path.charCodeAt(at) === slash)) {
        lists[count] = node.separated;
        positions[count++] = 0;
      }
      if (node.children === undefined || at === path.length) return count;
      const child = node.children.get(path.charCodeAt(at));
      if (child === undefined || !path.startsWith(child.label, at)) return count;
      at += child.label.length;
      node = child;
    }
  }

  #insert(prefix: string): TreeNode {
    this.#hasTree = true;
    let node = this.#root;
    let at = 0;
    while (at < prefix.length) {
      node.children ??= new Map();
      const code = prefix.charCodeAt(at);
      const child = node.children.get(code);
      if (child === undefined) {
        const leaf = newNode(prefix.slice(at));
        node.children.set(code, leaf);
        return leaf;
      }
      const label = child.label;
      let common = 1;
      while (common < label.length && at + common < prefix.length && label.charCodeAt(common) === prefix.charCodeAt(at + common)) common++;
      if (common < label.length) {
        const middle = newNode(label.slice(0, common));
        child.label = label.slice(common);
        middle.children = new Map([[child.label.charCodeAt(0), child]]);
        node.children.set(code, middle);
        node = middle;
      } else node = child;
      at += common;
    }
    return node;
  }
}
