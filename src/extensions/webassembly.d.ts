/** What is used here of the WebAssembly interface of JavaScript, which comes with the DOM's types otherwise. */
declare namespace WebAssembly {
  interface Module {
    readonly webAssemblyModule?: never;
  }
  type ImportValue = ((...args: never[]) => unknown) | Memory;
  type Imports = Record<string, Record<string, ImportValue>>;
  type ExportValue = ((...args: unknown[]) => unknown) | Memory | Table | { readonly value: unknown };

  var Module: {
    new (bytes: Uint8Array): Module;
    imports(module: Module): { readonly module: string; readonly name: string; readonly kind: string }[];
    exports(module: Module): { readonly name: string; readonly kind: string }[];
    customSections(module: Module, name: string): ArrayBuffer[];
  };
  interface Instance {
    readonly exports: Readonly<Record<string, ExportValue | undefined>>;
  }
  var Instance: { new (module: Module, imports?: Imports): Instance };
  interface Memory {
    readonly buffer: ArrayBuffer;
    grow(pages: number): number;
  }
  var Memory: { new (options: { initial: number; maximum?: number }): Memory };
  interface Table {
    readonly length: number;
    get(index: number): unknown;
    set(index: number, value: unknown): void;
    grow(count: number): number;
  }
  var RuntimeError: { new (message?: string): Error };
}
