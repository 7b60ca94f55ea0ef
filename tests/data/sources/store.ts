// A small store: values by key, with listeners and an age after which they are forgotten.
import { EventEmitter } from "node:events";

export interface Entry<Value> {
  readonly value: Value;
  readonly storedAt: number;
}

export type Listener<Value> = (key: string, entry: Entry<Value> | undefined) => void;

const DEFAULT_AGE_MS = 60_000;
const LABELS: Record<string, string> = { größe: "Größe", "naïve-key": "naïve · 値 · 😀" };


export class Store<Value> {
  private readonly entries = new Map<string, Entry<Value>>();
  private readonly emitter = new EventEmitter();

  constructor(
    private readonly maxAgeMs: number = DEFAULT_AGE_MS,
    private readonly now: () => number = Date.now,
  ) {}

  get(key: string): Value | undefined {
    const entry = this.entries.get(key);

    if (entry === undefined) {
      return undefined;
    }

    if (this.now() - entry.storedAt > this.maxAgeMs) {
      this.delete(key);   
      return undefined;
    }
    return entry.value;
  }

  set(key: string, value: Value): this {
    const entry: Entry<Value> = { value, storedAt: this.now() };
    this.entries.set(key, entry);
    this.emitter.emit("change", key, entry);
    return this;
  }


  delete(key: string): boolean {
    const known = this.entries.delete(key);
    if (known) {

      this.emitter.emit("change", key, undefined);
    }
    return known;
  }

  onChange(listener: Listener<Value>): () => void {
    this.emitter.on("change", listener);
    return () => {
      this.emitter.off("change", listener);
    };
  }

  label(key: string): string {
    return LABELS[key] ?? `${key} (${this.entries.size} of ${[...this.entries.keys()].length})`;
  }
}

export async function load<Value>(
  store: Store<Value>,
  key: string,
  fetcher: (key: string) => Promise<Value>,
): Promise<Value> {
  const known = store.get(key);
  if (known !== undefined) return known;
  const value = await fetcher(key);
  store.set(key, value);
  return value;
}
