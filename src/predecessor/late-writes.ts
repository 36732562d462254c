import type { Channel } from '../channel/channel.js'
import type { Env } from '../env.js'
import type { LateAct, LateSink } from '../protocols/protocol.js'

export interface LateWrite extends LateAct {
  readonly index: number
  readonly isRepeating: boolean
}

/**
 * Passes on what handlers that were at work at the freeze still write. Until the successor has resumed, late writes wait: they are the
 * successor's to send, or ours again if it dies. What an interval writes is dropped: the successor has the same interval.
 */
export class LateWrites {
  readonly #env: Env
  readonly #channel: Channel
  readonly #isRepeating: () => boolean
  #waiting: LateWrite[] | undefined
  /** Connections that the successor was given something for. */
  readonly written = new Set<number>()

  constructor(env: Env, channel: Channel, isRepeating: () => boolean) {
    this.#env = env
    this.#channel = channel
    this.#isRepeating = isRepeating
  }

  sinkFor(index: number): LateSink {
    return {
      late: (kind, data, detail = null) => {
        const isRepeating = this.#isRepeating()
        // What an interval writes meanwhile is kept too: it counts if the connection comes back. A caller may reuse its buffer.
        if (this.#waiting) this.#waiting.push({ index, kind, data: Uint8Array.prototype.slice.call(data), detail, isRepeating })
        else if (!isRepeating) this.#forward({ index, kind, data, detail, isRepeating })
      },
    }
  }

  wait(): void {
    this.#waiting ??= []
  }

  /** The successor has resumed. */
  flush(): void {
    const waiting = this.#waiting ?? []
    this.#waiting = undefined
    for (const late of waiting) if (!late.isRepeating) this.#forward(late)
  }

  /** The successor has died: what waited, for the connections that come back. */
  takeBack(): LateWrite[] {
    const waiting = this.#waiting ?? []
    this.#waiting = undefined
    return waiting
  }

  #forward({ index, kind, data, detail }: LateWrite): void {
    if (this.#channel.closed) return // the successor has gone, and the connection with it
    this.written.add(index)
    try {
      this.#channel.send({ type: 'late', connection: index, kind, detail }, { segments: data.length > 0 ? [data] : [] })
    } catch (error) {
      this.#env.log(`${data.length} late bytes for a moved connection could not be passed on: ${(error as Error).message}`)
      this.#channel.close(error as Error)
    }
  }
}
