/** Runtime values (layered_runtime) as one thread sees them: the main thread sends each new snapshot whole. */
/** A fraction that a runtime key may override; `denominator` is 100, 10000 or 1000000. */
export interface Fraction {
  readonly numerator: number;
  readonly denominator: number;
}

export type RuntimeValue = string | number | boolean | Fraction;

export class RuntimeSnapshot {
  readonly #values: ReadonlyMap<string, RuntimeValue>;
  constructor(values: ReadonlyMap<string, RuntimeValue> = new Map()) {
    this.#values = values;
  }
  get(key: string): RuntimeValue | undefined {
    return this.#values.get(key);
  }
  /** A number; anything else under the key counts as unset. */
  number(key: string, fallback: number): number {
    const value = key === "" ? undefined : this.#values.get(key);
    return typeof value === "number" ? value : fallback;
  }
  /** A whole number from 0 on: fractions are cut off; negative numbers, and what is no number, count as unset. */
  integer(key: string, fallback: number): number {
    const value = key === "" ? undefined : this.#values.get(key);
    return typeof value === "number" && value >= 0 ? Math.trunc(value) : fallback;
  }
  boolean(key: string, fallback: boolean): boolean {
    const value = key === "" ? undefined : this.#values.get(key);
    if (typeof value === "boolean") return value;
    if (value === "true") return true;
    if (value === "false") return false;
    return fallback;
  }
  /** Whether `random` (a uint32 or larger integer) falls into the fraction; a key that holds a whole number N means N of 100. */
  featureEnabled(key: string, fallback: Fraction, random: number): boolean {
    let { numerator, denominator } = fallback;
    const value = key === "" ? undefined : this.#values.get(key);
    if (typeof value === "number" && value >= 0) {
      numerator = Math.trunc(value);
      denominator = 100;
    } else if (typeof value === "object") ({ numerator, denominator } = value);
    if (numerator <= 0) return false;
    if (numerator >= denominator) return true;
    return random % denominator < numerator;
  }
}

/** The thread's current snapshot: read it at use, do not keep it. */
export interface Runtime {
  readonly snapshot: RuntimeSnapshot;
}
