import type { Env } from '../env.js'
import { TsunagiError } from '../errors.js'
import type { Lifecycle } from '../lifecycle.js'

/**
 * A reload that is asked for before this process serves: it boots, or has not taken over yet. Whoever asks means the version that is there now, so the
 * reload waits until this process serves and begins then. One waits at a time, and no longer than a new version may take.
 */
export class EarlyReload {
  readonly #process: { readonly env: Pick<Env, 'log'>; readonly lifecycle: Lifecycle }
  #isWaiting = false

  constructor(process: { readonly env: Pick<Env, 'log'>; readonly lifecycle: Lifecycle }) {
    this.#process = process
  }

  /** Resolves at once where this process serves, has handed over, or does not come to serve within `timeout` ms: what follows looks for itself. */
  async untilServing(timeout = 60_000): Promise<void> {
    const { env, lifecycle } = this.#process
    if (lifecycle.isOwner || lifecycle.retiring.aborted) return
    if (this.#isWaiting) throw new TsunagiError('ERR_TSUNAGI_BUSY', 'A reload waits already until this process serves.', { serving: true })
    this.#isWaiting = true
    env.log('a reload was asked for before this process serves: it begins once it does')
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeout).unref()
    })
    await Promise.race([lifecycle.owned, late])
    clearTimeout(timer)
    this.#isWaiting = false
  }
}
