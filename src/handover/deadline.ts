/** An absolute end, in the time of `env.now()`. */
export class Deadline {
  readonly #now: () => number
  readonly #end: number

  constructor(now: () => number, ms: number) {
    this.#now = now
    this.#end = now() + ms
  }

  /** Milliseconds that are left, 0 or more. */
  get left(): number {
    return Math.max(0, Math.ceil(this.#end - this.#now()))
  }
}

/** How long the server may stand still for one handover, ms: 250 + 10 µs a connection + 1 ms a pending megabyte (DESIGN section 5.6). */
export function freezeBudget(connections: number, pendingBytes: number): number {
  return 250 + connections * 0.01 + pendingBytes / 1e6
}
