import { isRunning } from '../handover/is-alive.js'

/**
 * Tells when the successor has said nothing for too long: 10 s for one that is stopped, 30 s for one that runs, which may be a busy machine's fault. Counted in
 * looks at what has arrived rather than by a clock: a process that was stopped itself finds, when it goes on, everything that was said meanwhile.
 */
export class SilenceWatch {
  #silentLooks = 0
  readonly #timer: NodeJS.Timeout

  constructor(pid: number, deliverNow: () => void, onSilent: () => void) {
    this.#timer = setInterval(() => {
      this.#silentLooks++
      deliverNow()
      if (this.#silentLooks <= (isRunning(pid) ? LOOKS_AT_BUSY : LOOKS_AT_STOPPED)) return
      this.close()
      onSilent()
    }, LOOK_MS).unref()
  }

  heard(): void {
    this.#silentLooks = 0
  }

  close(): void {
    clearInterval(this.#timer)
  }
}

const LOOK_MS = 2_000
const LOOKS_AT_STOPPED = 5
const LOOKS_AT_BUSY = 15
