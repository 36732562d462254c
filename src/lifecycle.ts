/**
 * What an application may wait for: that this process serves (`owned`), and that another one does from now on (`retiring`).
 * A process goes booting → serving → retired, or booting → pending → serving where a predecessor is there.
 */
export class Lifecycle {
  readonly #owned: Promise<void>
  readonly #askedForOwnership: Promise<void>
  #askForOwnership!: () => void
  readonly #retiring = new AbortController()
  readonly #ready = new Set<Promise<unknown>>()
  #resolveOwned!: () => void
  #declareReady!: () => void
  readonly #declaredReady: Promise<void>
  #isOwner = false

  constructor() {
    this.#owned = new Promise((resolve) => {
      this.#resolveOwned = resolve
    })
    this.#askedForOwnership = new Promise((resolve) => {
      this.#askForOwnership = resolve
    })
    this.#declaredReady = new Promise((resolve) => {
      this.#declareReady = resolve
    })
  }

  /** Resolves when this process serves. */
  get owned(): Promise<void> {
    return this.#owned
  }

  /** The same for the application, whose main module may wait for it. */
  askForOwnership(): Promise<void> {
    this.#askForOwnership()
    return this.#owned
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

  /**
   * Resolves when the application is ready: it said so, or its main module is evaluated, every promise given to `ready` has resolved, every
   * `listen()` has called back, and a quiet turn has passed.
   */
  async whenReady(bootDone: () => Promise<void>, isListenPending: () => boolean): Promise<void> {
    await Promise.race([this.#declaredReady, this.#becomeReady(bootDone, isListenPending)])
  }

  async #becomeReady(bootDone: () => Promise<void>, isListenPending: () => boolean): Promise<void> {
    await Promise.race([bootDone(), this.#askedForOwnership.then(waitsForNothingElse)])
    let waitedFor: number
    do {
      waitedFor = this.#ready.size
      await Promise.all(this.#ready)
      await quietTurn()
    } while (waitedFor !== this.#ready.size || isListenPending())
  }
}

/**
 * A main module that awaits owned() at its top level is as evaluated as it can be before the handover: then nothing else is under way in it. One that
 * only has a callback for owned() goes on, with a file, a name or a timer in between. Idle pools of connections look like work as well, for a while.
 */
async function waitsForNothingElse(): Promise<void> {
  const end = performance.now() + ASKED_MS
  while (performance.now() < end) {
    await quietTurn()
    // One timer is ours: it holds the loop until the handover.
    const work = process.getActiveResourcesInfo().filter((name) => !IDLE_RESOURCES.has(name))
    if (work.filter((name) => name === 'Timeout').length <= 1 && work.every((name) => name === 'Timeout')) return
    await new Promise((resolve) => setTimeout(resolve, 10).unref())
  }
}

/** What a process has that waits for others: listeners, standard input and output. */
const IDLE_RESOURCES = new Set(['TCPServerWrap', 'PipeServerWrap', 'UDPWrap', 'TTYWrap', 'PipeWrap', 'Immediate', 'SignalWrap'])
/** A main module that awaits something for longer says so to `ready`. */
const ASKED_MS = 2_000

/** Two turns of the event loop: whatever 'listening' handlers started at once has had its chance to call listen() again. */
export async function quietTurn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
  await new Promise((resolve) => setImmediate(resolve))
}
