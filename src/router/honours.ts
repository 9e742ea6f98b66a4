/** What the route table and the matchers act on: core's part of `Honours` (extensions bring their own). */
import type { Honours } from "../extensions/extension.ts";
import { honours as cidrs } from "../matching/cidr.ts";
import { honours as filterState } from "../matching/filter-state-matcher.ts";
import { honours as headerMatchers } from "../matching/header-matcher.ts";
import { honours as inputs } from "../matching/http-inputs.ts";
import { honours as matchers } from "../matching/matcher.ts";
import { honours as queryParameters } from "../matching/query-parameters.ts";
import { honours as stringMatchers } from "../matching/string-matcher.ts";
import { honours as values } from "../matching/value-matcher.ts";
import { honours as routes } from "./compile.ts";
import { honours as fractions } from "./fraction.ts";
import { honours as hashPolicies } from "./hash-policy.ts";
import { honours as headerMutations } from "./header-mutation.ts";
import { honours as perFilter } from "./per-filter-config.ts";
import { honours as rateLimits } from "./rate-limit.ts";
import { honours as retryPolicies } from "./retry-policy.ts";
import { honours as routeMatches } from "./route-match.ts";

export const routingHonours: readonly Honours[] = [
  cidrs,
  filterState,
  headerMatchers,
  inputs,
  matchers,
  queryParameters,
  stringMatchers,
  values,
  routes,
  fractions,
  hashPolicies,
  headerMutations,
  perFilter,
  rateLimits,
  retryPolicies,
  routeMatches,
];
