/** A problem found in a configuration: what, where, why, what to do. Printed by config/print-findings.ts. */
export interface Finding {
  /** Stable: OR1xxx shape of the file, OR2xxx values (PGV), OR3xxx references and meaning, OR4xxx not supported here, OR5xxx files, OR6xxx advice. */
  readonly code: `OR${number}`;
  readonly severity: "error" | "warning";
  /** One sentence, lower case, naming the value: `unknown field "adress" in envoy.config.bootstrap.v3.Admin`. */
  readonly text: string;
  /** Where it stands: filled by whoever knows positions. */
  readonly origin: Origin | undefined;
  /** What to do: `did you mean "address"?`. */
  readonly hint: string | undefined;
}

/** A place in a configuration source. */
export interface Origin {
  readonly file: string;
  /** From 1; 0 where the source has no lines (binary, a file that cannot be read). */
  readonly line: number;
  readonly column: number;
  /** From 1, exclusive end on the same line where it is known (for the caret line). */
  readonly endColumn: number | undefined;
  /** static_resources.listeners[0].filter_chains[0]... */
  readonly path: string;
  /** The whole line, for the code frame. */
  readonly lineText?: string | undefined;
}
