/** What a subscription needs of gRPC: one stream of messages both ways. */

export interface StreamEvents {
  /** One message, whole; valid during the call. */
  onMessage(bytes: Buffer): void;
  /** The stream is over: a status of gRPC (14 where there was no connection) and why. Nothing follows. */
  onClose(status: number, message: string): void;
}

export interface ManagementStream {
  send(message: Uint8Array): void;
  /** Ends it without a word to `onClose`. */
  close(): void;
}

/** Opens a stream; undefined: there is nobody to talk to now. */
export type OpenStream = (events: StreamEvents) => ManagementStream | undefined;
