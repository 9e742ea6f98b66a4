/** The functions of "env" that modules call, of all ABI versions. Arguments are the guest's: every pointer is checked, every failure is a status. */

import { readProperty } from "../attributes.ts";
import { bufferType, decodePairs, encodePairs, mapType, metricType, status, streamType } from "./abi.ts";
import { type FieldMap, RootContext, type WasmContext } from "./context.ts";
import { foreignFunctions } from "./foreign.ts";
import { MemoryError } from "./guest-memory.ts";
import { dequeue, enqueue, getShared, registerQueue, resolveQueue, setShared } from "./shared-data.ts";
import type { WasmVm } from "./vm.ts";
import { GuestExit, wallNanoseconds } from "./wasi.ts";

type HostFunction = (...args: never[]) => number;

const signed = (value: number): number => value | 0;
const bodyTypes: ReadonlySet<number> = new Set([mapType.requestHeaders, mapType.responseHeaders]);

export function hostFunctions(vm: WasmVm): Record<string, HostFunction> {
  const context = (): WasmContext => {
    if (vm.current === undefined) throw new NoContext();
    return vm.current;
  };
  const root = (): RootContext | undefined => {
    const current = context();
    return current instanceof RootContext ? current : (vm.contexts.get(current.parentId) as RootContext | undefined);
  };
  const fields = (type: number): FieldMap | undefined => {
    const current = context();
    switch (type) {
      case mapType.httpCallResponseHeaders:
        return current.callHeaders;
      case mapType.httpCallResponseTrailers:
        return current.callTrailers;
      case mapType.grpcInitialMetadata:
        return current.grpcInitialMetadata;
      case mapType.grpcTrailingMetadata:
        return current.grpcTrailingMetadata;
      default:
        return current.fields(type);
    }
  };
  /** A map that may be written: those of the stream. */
  const writable = (type: number): FieldMap | undefined =>
    type >= mapType.requestHeaders && type <= mapType.responseTrailers ? context().fields(type) : undefined;
  const changed = (type: number): void => {
    // As Envoy for these versions of the ABI: what was chosen by the head is chosen again.
    if (type === mapType.requestHeaders) context().clearRouteCache();
  };
  const functions: Record<string, HostFunction> = {
    // ---- log, time, status
    proxy_log(level: number, at: number, size: number) {
      if (level < 0 || level > 5) return status.badArgument;
      vm.logAs(level, vm.memory.utf8(at, size));
      return status.ok;
    },
    proxy_get_log_level(at: number) {
      vm.memory.setUint32(at, context().plugin.logLevel());
      return status.ok;
    },
    proxy_get_current_time_nanoseconds(at: number) {
      vm.memory.setUint64(at, wallNanoseconds());
      return status.ok;
    },
    proxy_get_status(codeAt: number, pointerAt: number, sizeAt: number) {
      vm.memory.setUint32(codeAt, context().statusCode);
      return vm.give(Buffer.from(context().statusMessage), pointerAt, sizeAt);
    },
    proxy_set_tick_period_milliseconds(ms: number) {
      const own = root();
      if (own === undefined) return status.badArgument;
      own.setTickPeriod(ms >>> 0);
      return status.ok;
    },
    proxy_set_effective_context(id: number) {
      const found = vm.contexts.get(id);
      if (found === undefined) return status.badArgument;
      vm.current = found;
      return status.ok;
    },
    proxy_done() {
      const current = context();
      if (!current.ended) return status.notFound;
      vm.afterCall(() => current.done());
      return status.ok;
    },

    // ---- properties
    proxy_get_property(at: number, size: number, pointerAt: number, sizeAt: number) {
      const source = context().properties;
      const path = vm.memory.utf8(at, size).replace(/\0$/, "").split("\0");
      const value = source === undefined ? undefined : readProperty(source, path);
      return value === undefined ? status.notFound : vm.give(value, pointerAt, sizeAt);
    },
    proxy_set_property(at: number, size: number, valueAt: number, valueSize: number) {
      const info = context().properties?.info;
      if (info === undefined) return status.notFound;
      info.setFilterState(`wasm.${vm.memory.utf8(at, size)}`, new GuestState(vm.memory.copy(valueAt, valueSize)));
      return status.ok;
    },

    // ---- header maps
    proxy_get_header_map_value(type: number, at: number, size: number, pointerAt: number, sizeAt: number) {
      const map = fields(type);
      if (map === undefined) return bodyTypes.has(type) || type > mapType.httpCallResponseTrailers ? status.badArgument : status.notFound;
      const value = map.get(vm.memory.text(at, size).toLowerCase());
      return value === undefined ? status.notFound : vm.give(Buffer.from(value, "latin1"), pointerAt, sizeAt);
    },
    proxy_add_header_map_value(type: number, at: number, size: number, valueAt: number, valueSize: number) {
      const map = writable(type);
      if (map === undefined) return status.badArgument;
      map.add(vm.memory.text(at, size).toLowerCase(), vm.memory.text(valueAt, valueSize));
      changed(type);
      return status.ok;
    },
    proxy_replace_header_map_value(type: number, at: number, size: number, valueAt: number, valueSize: number) {
      const map = writable(type);
      if (map === undefined || !map.set(vm.memory.text(at, size).toLowerCase(), vm.memory.text(valueAt, valueSize))) return status.badArgument;
      changed(type);
      return status.ok;
    },
    proxy_remove_header_map_value(type: number, at: number, size: number) {
      const map = writable(type);
      if (map === undefined) return status.badArgument;
      map.remove(vm.memory.text(at, size).toLowerCase());
      changed(type);
      return status.ok;
    },
    proxy_get_header_map_pairs(type: number, pointerAt: number, sizeAt: number) {
      const map = fields(type);
      if (map === undefined) {
        if (type > mapType.httpCallResponseTrailers || type < 0) return status.badArgument;
        vm.memory.setUint32(pointerAt, 0);
        vm.memory.setUint32(sizeAt, 0);
        return status.ok;
      }
      return vm.give(encodePairs(map.entries()), pointerAt, sizeAt);
    },
    proxy_set_header_map_pairs(type: number, at: number, size: number) {
      const map = writable(type);
      const pairs = decodePairs(vm.memory.view(at, size));
      if (map === undefined) return status.badArgument;
      if (pairs === undefined) return status.serializationFailure;
      map.replaceAll(pairs);
      changed(type);
      return status.ok;
    },
    proxy_get_header_map_size(type: number, sizeAt: number) {
      const map = fields(type);
      if (map === undefined && (type > mapType.httpCallResponseTrailers || type < 0)) return status.badArgument;
      const entries = map?.entries() ?? [];
      vm.memory.setUint32(
        sizeAt,
        entries.reduce((sum, text) => sum + text.length, 0),
      );
      return status.ok;
    },

    // ---- buffers
    proxy_get_buffer_status(type: number, sizeAt: number, flagsAt: number) {
      const buffer = bufferOf(vm, context(), type);
      if (buffer === undefined) return status.notFound;
      vm.memory.setUint32(sizeAt, buffer.read().length);
      vm.memory.setUint32(flagsAt, 0);
      return status.ok;
    },
    proxy_get_buffer_bytes(type: number, start: number, length: number, pointerAt: number, sizeAt: number) {
      const buffer = bufferOf(vm, context(), type);
      if (buffer === undefined) return status.notFound;
      const data = buffer.read();
      const from = start >>> 0;
      const wanted = length >>> 0;
      if (from + wanted > 0xffffffff) return status.badArgument;
      if (from >= data.length) return data.length === 0 || from === data.length ? vm.give(Buffer.alloc(0), pointerAt, sizeAt) : status.badArgument;
      return vm.give(data.subarray(from, Math.min(data.length, from + wanted)), pointerAt, sizeAt);
    },
    proxy_set_buffer_bytes(type: number, start: number, length: number, at: number, size: number) {
      const buffer = bufferOf(vm, context(), type);
      if (buffer === undefined) return status.notFound;
      if (buffer.replace === undefined) return status.badArgument;
      const data = buffer.read();
      const from = start >>> 0;
      const taken = length >>> 0;
      const added = vm.memory.copy(at, size);
      if (from === 0) buffer.replace(taken >= data.length ? added : Buffer.concat([added, data.subarray(taken)]));
      else if (from >= data.length) buffer.replace(Buffer.concat([data, added]));
      else return status.badArgument;
      return status.ok;
    },
    proxy_get_configuration(pointerAt: number, sizeAt: number) {
      const data = bufferOf(vm, context(), bufferType.pluginConfiguration)?.read();
      return data === undefined ? status.notFound : vm.give(data, pointerAt, sizeAt);
    },

    // ---- the stream
    proxy_continue_stream: (type: number) => (context().continueStream(type) ? status.ok : status.badArgument),
    proxy_continue_request: () => (context().continueStream(streamType.request) ? status.ok : status.badArgument),
    proxy_continue_response: () => (context().continueStream(streamType.response) ? status.ok : status.badArgument),
    proxy_close_stream: (type: number) => (context().closeStream(type) ? status.ok : status.badArgument),
    proxy_clear_route_cache() {
      context().clearRouteCache();
      return status.ok;
    },
    proxy_send_local_response(
      code: number,
      detailsAt: number,
      detailsSize: number,
      bodyAt: number,
      bodySize: number,
      pairsAt: number,
      pairsSize: number,
      grpcStatus: number,
    ) {
      const details = vm.memory.text(detailsAt, detailsSize);
      const body = vm.memory.text(bodyAt, bodySize);
      const pairs = decodePairs(vm.memory.view(pairsAt, pairsSize));
      if (pairs === undefined || code < 200 || code > 599) return status.badArgument;
      return context().sendLocalReply(code, body, details, pairs, signed(grpcStatus)) ? status.ok : status.badArgument;
    },

    // ---- exchanges of its own
    proxy_http_call(
      clusterAt: number,
      clusterSize: number,
      headersAt: number,
      headersSize: number,
      bodyAt: number,
      bodySize: number,
      trailersAt: number,
      trailersSize: number,
      timeoutMs: number,
      tokenAt: number,
    ) {
      const headers = decodePairs(vm.memory.view(headersAt, headersSize));
      const trailers = decodePairs(vm.memory.view(trailersAt, trailersSize));
      const body = vm.memory.copy(bodyAt, bodySize);
      vm.memory.view(tokenAt, 4);
      if (headers === undefined || trailers === undefined) return status.parseFailure;
      const current = context();
      const token = current.plugin.httpCall(current, vm.memory.utf8(clusterAt, clusterSize), headers, body, timeoutMs >>> 0);
      if (token === undefined) return status.badArgument;
      vm.memory.setUint32(tokenAt, token);
      return status.ok;
    },
    proxy_grpc_call(
      serviceAt: number,
      serviceSize: number,
      nameAt: number,
      nameSize: number,
      methodAt: number,
      methodSize: number,
      metadataAt: number,
      metadataSize: number,
      messageAt: number,
      messageSize: number,
      timeoutMs: number,
      tokenAt: number,
    ) {
      return startGrpc(vm, context(), tokenAt, {
        service: vm.memory.copy(serviceAt, serviceSize),
        name: vm.memory.utf8(nameAt, nameSize),
        method: vm.memory.utf8(methodAt, methodSize),
        metadata: decodePairs(vm.memory.view(metadataAt, metadataSize)),
        message: vm.memory.copy(messageAt, messageSize),
        timeoutMs: timeoutMs >>> 0,
      });
    },
    proxy_grpc_stream(
      serviceAt: number,
      serviceSize: number,
      nameAt: number,
      nameSize: number,
      methodAt: number,
      methodSize: number,
      metadataAt: number,
      metadataSize: number,
      tokenAt: number,
    ) {
      return startGrpc(vm, context(), tokenAt, {
        service: vm.memory.copy(serviceAt, serviceSize),
        name: vm.memory.utf8(nameAt, nameSize),
        method: vm.memory.utf8(methodAt, methodSize),
        metadata: decodePairs(vm.memory.view(metadataAt, metadataSize)),
        message: undefined,
        timeoutMs: 0,
      });
    },
    proxy_grpc_send(token: number, at: number, size: number, end: number) {
      const message = vm.memory.copy(at, size);
      const call = context().calls.get(token);
      if (call?.send === undefined) return status.badArgument;
      call.send(message, end !== 0);
      return status.ok;
    },
    proxy_grpc_close(token: number) {
      const call = context().calls.get(token);
      if (call?.send === undefined) return status.badArgument;
      call.close?.();
      return status.ok;
    },
    proxy_grpc_cancel(token: number) {
      const { calls } = context();
      const call = calls.get(token);
      if (call === undefined) return status.badArgument;
      calls.delete(token);
      call.cancel();
      return status.ok;
    },

    // ---- shared data and queues
    proxy_get_shared_data(at: number, size: number, pointerAt: number, sizeAt: number, casAt: number) {
      const found = getShared(vm.settings.vmId, vm.memory.text(at, size));
      if (found === undefined) return status.notFound;
      const given = vm.give(found.value, pointerAt, sizeAt);
      if (given === status.ok) vm.memory.setUint32(casAt, found.cas);
      return given;
    },
    proxy_set_shared_data(at: number, size: number, valueAt: number, valueSize: number, cas: number) {
      const result = setShared(vm.settings.vmId, vm.memory.text(at, size), vm.memory.copy(valueAt, valueSize), cas >>> 0);
      return result === "ok" ? status.ok : result === "cas_mismatch" ? status.casMismatch : status.internalFailure;
    },
    proxy_register_shared_queue(at: number, size: number, tokenAt: number) {
      const own = root();
      vm.memory.view(tokenAt, 4);
      if (own === undefined) return status.badArgument;
      vm.memory.setUint32(
        tokenAt,
        registerQueue(vm.settings.vmId, vm.memory.text(at, size), (token) => own.onQueueReady(token)),
      );
      return status.ok;
    },
    proxy_resolve_shared_queue(idAt: number, idSize: number, at: number, size: number, tokenAt: number) {
      const token = resolveQueue(vm.memory.utf8(idAt, idSize), vm.memory.text(at, size));
      if (token === undefined) return status.notFound;
      vm.memory.setUint32(tokenAt, token);
      return status.ok;
    },
    proxy_enqueue_shared_queue(token: number, at: number, size: number) {
      const result = enqueue(token, vm.memory.copy(at, size));
      return result === "ok" ? status.ok : result === "not_found" ? status.notFound : status.internalFailure;
    },
    proxy_dequeue_shared_queue(token: number, pointerAt: number, sizeAt: number) {
      vm.memory.view(pointerAt, 4);
      vm.memory.view(sizeAt, 4);
      const data = dequeue(token);
      if (data === "not_found") return status.notFound;
      return data === "empty" ? status.empty : vm.give(data, pointerAt, sizeAt);
    },

    // ---- statistics
    proxy_define_metric(type: number, at: number, size: number, idAt: number) {
      const name = vm.memory.utf8(at, size);
      vm.memory.view(idAt, 4);
      if (type < metricType.counter || type > metricType.histogram) return status.badArgument;
      const id = context().plugin.metrics.define(type, name);
      if (id === undefined) return status.internalFailure;
      vm.memory.setUint32(idAt, id);
      return status.ok;
    },
    proxy_increment_metric: (id: number, offset: bigint) => context().plugin.metrics.increment(id >>> 0, Number(offset)),
    proxy_record_metric: (id: number, value: bigint) => context().plugin.metrics.record(id >>> 0, Number(BigInt.asUintN(64, value))),
    proxy_get_metric(id: number, at: number) {
      const value = context().plugin.metrics.value(id >>> 0);
      if (value === undefined) return status.badArgument;
      vm.memory.setUint64(at, BigInt(Math.trunc(value)));
      return status.ok;
    },

    // ---- what the host has besides
    proxy_call_foreign_function(at: number, size: number, argumentAt: number, argumentSize: number, pointerAt: number, sizeAt: number) {
      const found = foreignFunctions.get(vm.memory.utf8(at, size));
      const argument = vm.memory.copy(argumentAt, argumentSize);
      if (found === undefined) return status.notFound;
      const result = found(context(), argument);
      if (typeof result === "number") return result;
      // Who does not want the result says so by a null pointer.
      return pointerAt === 0 || sizeAt === 0 ? status.ok : vm.give(result, pointerAt, sizeAt);
    },

    // ---- what compilers add
    emscripten_notify_memory_growth: () => status.ok,
    pthread_equal: (a: number, b: number) => (a === b ? 1 : 0),
  };
  for (const name in functions) {
    const call = functions[name] as (...args: unknown[]) => number;
    functions[name] = ((...args: unknown[]) => {
      try {
        return call(...args);
      } catch (error) {
        if (error instanceof MemoryError) return status.invalidMemoryAccess;
        if (error instanceof NoContext) return status.badArgument;
        // A trap of the guest (it was asked for memory), its exit, or a fault of ours: the module ends, and nothing else.
        if (error instanceof GuestExit || error instanceof WebAssembly.RuntimeError) throw error;
        throw new WebAssembly.RuntimeError(`${name}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }) as HostFunction;
  }
  return functions;
}

class NoContext extends Error {}

/** Text that a module has set: filter state that others and access logs see. */
export class GuestState {
  readonly value: Buffer;
  constructor(value: Buffer) {
    this.value = value;
  }
  serializeAsString(): string {
    return this.value.toString("utf8");
  }
  /** As google.protobuf.BytesValue. */
  serializeAsJson(): string {
    return this.value.toString("base64");
  }
}

function bufferOf(vm: WasmVm, current: WasmContext, type: number) {
  switch (type) {
    case bufferType.vmConfiguration:
      return { read: () => vm.settings.configuration, replace: undefined };
    case bufferType.pluginConfiguration:
      return { read: () => current.plugin.configuration, replace: undefined };
    case bufferType.httpCallResponseBody: {
      const { callBody } = current;
      return callBody && { read: () => callBody, replace: undefined };
    }
    case bufferType.grpcReceive: {
      const { grpcMessage } = current;
      return grpcMessage && { read: () => grpcMessage, replace: undefined };
    }
    case bufferType.callData:
      return undefined;
    default:
      return current.buffer(type);
  }
}

export interface GrpcRequest {
  /** The name of a cluster, or a serialized envoy.config.core.v3.GrpcService. */
  readonly service: Buffer;
  readonly name: string;
  readonly method: string;
  readonly metadata: string[] | undefined;
  /** undefined: a stream, whose messages come later. */
  readonly message: Buffer | undefined;
  readonly timeoutMs: number;
}

function startGrpc(vm: WasmVm, current: WasmContext, tokenAt: number, request: GrpcRequest): number {
  vm.memory.view(tokenAt, 4);
  if (request.metadata === undefined) return status.parseFailure;
  const token = current.plugin.grpcCall(current, request);
  if (token === undefined) return status.parseFailure;
  vm.memory.setUint32(tokenAt, token);
  return status.ok;
}
