/** Those that arrive together are heard together: what one says to a room has to find the others there. */
export class Together {
  readonly #waiting = new Set<() => void>()
  #unsettled = 0

  wait(settled: Promise<void>): Promise<void> {
    this.#unsettled++
    void settled.then(() => {
      if (--this.#unsettled === 0) for (const resolve of this.#waiting) resolve()
    })
    return new Promise((resolve) => {
      const limit = setTimeout(() => done(), LONGEST_TOGETHER_MS)
      const done = () => {
        clearTimeout(limit)
        this.#waiting.delete(done)
        void settled.then(resolve)
      }
      this.#waiting.add(done)
    })
  }
}

/** Longest that one waits for the middlewares of others, ms. */
const LONGEST_TOGETHER_MS = 1_000
