/**
 * Bounds what a backtracking matcher can spend on a pattern.
 *
 * A piece of a pattern whose position (Glushkov) automaton is deterministic costs a backtracker at most one live path: every wrong choice
 * fails on the next character. A pattern is cut into such pieces; each piece that can match texts of any length may end at n places, so
 * the pieces multiply: `coefficient * n ** degree` bounds the steps from one start. What cannot be cut so is not bounded here.
 */
import type { CharSet, RegexNode } from "./parse.ts";

export interface CostBound {
  readonly degree: number;
  readonly coefficient: number;
}

/** Larger automata are not analysed: counted repetitions multiply positions. */
const maxPositions = 300;
const maxCoefficient = 1000;

/** A bound for matching at one fixed start, or undefined where none is known. */
export function boundBacktracking(root: RegexNode): CostBound | undefined {
  const items: RegexNode[] = [];
  flatten(root, items);
  let degree = 0;
  let coefficient = 1;
  let at = 0;
  while (at < items.length) {
    // The longest run of items that is still deterministic as a whole.
    let end = at;
    let piece: Fragment | undefined;
    let automaton: Automaton | undefined;
    while (end < items.length) {
      const next = new Automaton();
      const fragment = next.concatenate(items.slice(at, end + 1));
      if (fragment === undefined || !next.isDeterministic(fragment)) break;
      automaton = next;
      piece = fragment;
      end++;
    }
    if (automaton !== undefined && piece !== undefined) {
      if (automaton.hasLoop) degree++;
      else coefficient *= Math.max(1, automaton.positionCount);
      at = end;
    } else {
      const bound = boundOne(items[at]);
      if (bound === undefined) return undefined;
      degree += bound.degree;
      coefficient *= bound.coefficient;
      at++;
    }
    if (coefficient > maxCoefficient) return undefined;
  }
  return { degree, coefficient };
}

/** Whether the pattern can only match at the start of the text. */
export function isAnchoredAtStart(node: RegexNode): boolean {
  switch (node.kind) {
    case "assert":
      return node.what === "text_begin";
    case "cat":
      return node.items.length > 0 && isAnchoredAtStart(node.items[0]);
    case "alt":
      return node.items.every(isAnchoredAtStart);
    case "group":
      return isAnchoredAtStart(node.item);
    default:
      return false;
  }
}

/**
 * Whether ECMAScript may report other places or groups than RE2, though both agree on whether there is a match: it forgets a group's text on
 * each round of a repetition, and refuses rounds that match nothing.
 */
export function reportsOtherGroups(node: RegexNode, inRepeat = false): boolean {
  switch (node.kind) {
    case "cat":
    case "alt":
      return node.items.some((item) => reportsOtherGroups(item, inRepeat));
    case "group":
      return inRepeat || reportsOtherGroups(node.item, inRepeat);
    case "repeat":
      return isNullable(node.item) || reportsOtherGroups(node.item, inRepeat || node.max !== 1);
    default:
      return false;
  }
}

function isNullable(node: RegexNode): boolean {
  switch (node.kind) {
    case "empty":
    case "assert":
      return true;
    case "char":
      return false;
    case "cat":
      return node.items.every(isNullable);
    case "alt":
      return node.items.some(isNullable);
    case "group":
      return isNullable(node.item);
    case "repeat":
      return node.min === 0 || isNullable(node.item);
  }
}

function flatten(node: RegexNode, into: RegexNode[]): void {
  if (node.kind === "cat") for (const item of node.items) flatten(item, into);
  else if (node.kind === "group") flatten(node.item, into);
  else into.push(node);
}

/** A single item that is not deterministic by itself. */
function boundOne(node: RegexNode): CostBound | undefined {
  if (node.kind === "alt") {
    let degree = 0;
    let coefficient = 0;
    for (const branch of node.items) {
      const bound = boundBacktracking(branch);
      if (bound === undefined) return undefined;
      degree = Math.max(degree, bound.degree);
      coefficient += bound.coefficient;
    }
    return { degree, coefficient };
  }
  const paths = finitePaths(node);
  return paths > maxCoefficient ? undefined : { degree: 0, coefficient: Math.max(1, paths) };
}

/** How many steps all paths through a pattern without unbounded loops can take; Infinity where it has one. */
function finitePaths(node: RegexNode): number {
  switch (node.kind) {
    case "empty":
    case "assert":
      return 1;
    case "char":
      return 1;
    case "cat":
      return node.items.reduce((product, item) => product * (finitePaths(item) + 1), 1);
    case "alt":
      return node.items.reduce((sum, item) => sum + finitePaths(item), 1);
    case "group":
      return finitePaths(node.item);
    case "repeat": {
      if (node.max < 0) return Number.POSITIVE_INFINITY;
      return (finitePaths(node.item) + 1) ** node.max;
    }
  }
}

interface Fragment {
  readonly nullable: boolean;
  readonly first: readonly number[];
  readonly last: readonly number[];
}

/** The position automaton of a fragment, with a note of every pair of positions that is linked twice. */
class Automaton {
  readonly #sets: CharSet[] = [];
  readonly #follow: Set<number>[] = [];
  #linkedTwice = false;
  #ambiguousEmpty = false;
  hasLoop = false;

  get positionCount(): number {
    return this.#sets.length;
  }

  concatenate(items: readonly RegexNode[]): Fragment | undefined {
    let whole: Fragment = { nullable: true, first: [], last: [] };
    for (const item of items) {
      const fragment = this.#build(item);
      if (fragment === undefined) return undefined;
      whole = this.#append(whole, fragment);
    }
    return whole;
  }

  isDeterministic(fragment: Fragment): boolean {
    if (this.#linkedTwice || this.#ambiguousEmpty) return false;
    if (!this.#disjoint(fragment.first)) return false;
    return this.#follow.every((positions) => this.#disjoint(positions));
  }

  #disjoint(positions: Iterable<number>): boolean {
    let ascii = 0n;
    let nonAscii = false;
    for (const position of positions) {
      const set = this.#sets[position];
      if ((ascii & set.ascii) !== 0n || (nonAscii && set.nonAscii)) return false;
      ascii |= set.ascii;
      nonAscii ||= set.nonAscii;
    }
    return true;
  }

  #link(from: readonly number[], to: readonly number[]): void {
    for (const a of from) {
      const follow = this.#follow[a];
      for (const b of to) {
        if (follow.has(b)) this.#linkedTwice = true;
        follow.add(b);
      }
    }
  }

  #append(a: Fragment, b: Fragment): Fragment {
    this.#link(a.last, b.first);
    return {
      nullable: a.nullable && b.nullable,
      first: a.nullable ? [...a.first, ...b.first] : a.first,
      last: b.nullable ? [...a.last, ...b.last] : b.last,
    };
  }

  #build(node: RegexNode): Fragment | undefined {
    switch (node.kind) {
      case "empty":
      case "assert":
        return { nullable: true, first: [], last: [] };
      case "char": {
        if (this.#sets.length >= maxPositions) return undefined;
        const position = this.#sets.push(node.set) - 1;
        this.#follow.push(new Set());
        return { nullable: false, first: [position], last: [position] };
      }
      case "cat":
        return this.concatenate(node.items);
      case "group":
        return this.#build(node.item);
      case "alt": {
        let nullable = false;
        const first: number[] = [];
        const last: number[] = [];
        for (const item of node.items) {
          const fragment = this.#build(item);
          if (fragment === undefined) return undefined;
          if (nullable && fragment.nullable) this.#ambiguousEmpty = true;
          nullable ||= fragment.nullable;
          first.push(...fragment.first);
          last.push(...fragment.last);
        }
        return { nullable, first, last };
      }
      case "repeat":
        return this.#repeat(node.item, node.min, node.max);
    }
  }

  #repeat(item: RegexNode, min: number, max: number): Fragment | undefined {
    let whole: Fragment = { nullable: true, first: [], last: [] };
    for (let i = 0; i < min - (max < 0 && min > 0 ? 1 : 0); i++) {
      const copy = this.#build(item);
      if (copy === undefined) return undefined;
      if (copy.nullable && max !== 1) this.#ambiguousEmpty = true;
      whole = this.#append(whole, copy);
    }
    if (max < 0) {
      const body = this.#build(item);
      if (body === undefined) return undefined;
      // A body that can be empty gives a backtracker rounds that consume nothing.
      if (body.nullable) this.#ambiguousEmpty = true;
      this.#link(body.last, body.first);
      this.hasLoop = true;
      return this.#append(whole, { nullable: min === 0, first: body.first, last: body.last });
    }
    // x{0,3} is (x(x(x)?)?)?: nested, so that one text is matched in one way only.
    let tail: Fragment | undefined;
    for (let i = min; i < max; i++) {
      const copy = this.#build(item);
      if (copy === undefined) return undefined;
      if (copy.nullable) this.#ambiguousEmpty = true;
      tail = tail === undefined ? { nullable: true, first: copy.first, last: copy.last } : this.#optional(copy, tail);
    }
    return tail === undefined ? whole : this.#append(whole, tail);
  }

  #optional(head: Fragment, tail: Fragment): Fragment {
    const both = this.#append(head, tail);
    return { nullable: true, first: both.first, last: both.last };
  }
}
