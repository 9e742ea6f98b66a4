/** EDS: the members of a cluster come as a ClusterLoadAssignment of their own. */

import { compileConfigSource } from "../config/config-source.ts";
import type { Finding } from "../config/finding.ts";
import type { Cluster } from "../config/schema/types/envoy.config.cluster.v3.d.ts";
import type { ClusterLoadAssignment } from "../config/schema/types/envoy.config.endpoint.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import type { Resource } from "../xds/resource.ts";
import { compileEndpoints } from "./compile-endpoints.ts";
import type { EdsSettings } from "./settings.ts";

export const assignmentType = "envoy.config.endpoint.v3.ClusterLoadAssignment";

export const honours: Honours = {
  "envoy.config.cluster.v3.Cluster": ["eds_cluster_config"],
  "envoy.config.cluster.v3.Cluster.EdsClusterConfig": "*",
};

export function compileEds(message: Cluster, context: CompileContext): EdsSettings | undefined {
  const config = message.edsClusterConfig;
  if (config === undefined) {
    context.report(message, "eds_cluster_config", {
      code: "OR3030",
      text: `cannot create an EDS cluster without an EDS config: cluster '${message.name}'`,
      hint: "add eds_cluster_config",
    });
    return undefined;
  }
  const source = compileConfigSource(config, "eds_config", config.edsConfig, context);
  if (source === undefined) return undefined;
  const serviceName = config.serviceName === "" ? message.name : config.serviceName;
  return {
    source,
    serviceName,
    membersOf(resources) {
      if (resources.length === 0) return undefined;
      if (resources.length > 1) throw new Error(`Unexpected EDS resource length: ${resources.length}`);
      const [resource] = resources;
      if (resource.name !== serviceName) throw new Error(`Unexpected EDS cluster (expecting ${serviceName}): ${resource.name}`);
      const loadAssignment = resource.message as ClusterLoadAssignment;
      const problems: Finding[] = [];
      const reporting: CompileContext = Object.create(context, { report: { value: reporter(resource, problems) } });
      const { hosts } = compileEndpoints({ ...message, loadAssignment }, "static", reporting);
      if (problems.length > 0) throw new Error(problems.map(({ text }) => text).join("; "));
      return { hosts, overprovisioningPercent: loadAssignment.policy?.overprovisioningFactor ?? 140 };
    },
  };
}

function reporter(resource: Resource, problems: Finding[]): CompileContext["report"] {
  return (message, field, { severity = "error", code, text, hint }) => {
    if (severity === "error") problems.push({ code, severity, text, hint, origin: resource.locate(message, field) });
  };
}
