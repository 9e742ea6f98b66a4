/** What extensions of the categories envoy.path.match and envoy.path.rewrite offer (as `other.pathMatch` / `other.pathRewrite`). */
import type { AnyMessage } from "../config/message.ts";
import type { CompileContext } from "../extensions/extension.ts";

/** A path condition that can name parts of the path. Paths are without query. */
export interface PathMatchPolicy {
  readonly text: string;
  readonly variables: readonly string[];
  /** Values of the variables, or undefined where the path does not match. */
  match(path: string): readonly string[] | undefined;
}

export interface PathMatchExtension {
  /** undefined after a finding. */
  compile(message: AnyMessage, context: CompileContext): PathMatchPolicy | undefined;
}

export interface PathRewriteExtension {
  /** `match`: the route's path match policy, if it has one. The result gives the new path (without query), undefined leaves it. */
  compile(message: AnyMessage, context: CompileContext, match: PathMatchPolicy | undefined): ((path: string) => string | undefined) | undefined;
}
