/**
 * What an application may wait for: that this process serves (`owned`), and that another one does from now on (`retiring`).
 * A process goes booting → serving → retired, or booting → pending → serving where a predecessor is there.
 */
export class Lifecycle {
  readonly owned: Promise<void>
  readonly #retiring = new AbortController()
  readonly #ready = new Set<Promise<unknown>>()
  #resolveOwned!: () => void
  #declareReady!: () => void
  readonly #declaredReady: Promise<void>
  #isOwner = false

  constructor() {
    this.owned = new Promise((resolve) => {
      this.#resolveOwned = resolve
    })
    this.#declaredReady = new Promise((resolve) => {
      this.#declareReady = resolve
    })
  }

  get retiring(): AbortSignal {
    return this.#retiring.signal
  }

  get isOwner(): boolean {
    return this.#isOwner && !this.#retiring.signal.aborted
  }

  own(): void {
    this.#isOwner = true
    this.#resolveOwned()
  }

  retire(): void {
    this.#retiring.abort()
  }

  /** Declares this process ready now, or once `until` has resolved; several may be declared. */
  ready(until?: Promise<unknown>): void {
    if (until === undefined) this.#declareReady()
    else this.#ready.add(until)
  }

  /** Resolves when the application is ready: it said so, or its main module is evaluated, every promise given to `ready` has resolved, and a quiet turn has passed. */
  async whenReady(bootDone: () => Promise<void>): Promise<void> {
    await Promise.race([this.#declaredReady, this.#becomeReady(bootDone)])
  }

  async #becomeReady(bootDone: () => Promise<void>): Promise<void> {
    let waitedFor = -1
    await bootDone()
    while (waitedFor !== this.#ready.size) {
      waitedFor = this.#ready.size
      await Promise.all(this.#ready)
      await quietTurn()
    }
  }
}

/** Two turns of the event loop: whatever 'listening' handlers started at once has had its chance to call listen() again. */
export async function quietTurn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
  await new Promise((resolve) => setImmediate(resolve))
}
