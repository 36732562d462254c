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

/**
 * How long the server may stand still for one handover, ms: 250 + 10 µs a connection + 4 ms a pending megabyte. Each megabyte is copied four
 * times, twice into memory that the kernel has to find first: `npm run proof -- big` needs 2 to 5 ms for one on a busy machine with two cores.
 */
export function freezeBudget(connections: number, pendingBytes: number): number {
  return 250 + connections * 0.01 + pendingBytes / 250_000
}
