import type { Received } from '../channel/codec.js'
import type { Peer } from '../channel/peer.js'
import type { Native } from '../native/native.js'
import type { Bequest, Held, Opened } from './holder.js'

/** What a keeper has for this process. */
export class KeptByKeeper implements Held {
  readonly holder = 'keeper'
  readonly bequest: Bequest
  readonly #native: Native
  readonly #peer: Peer
  readonly #listeners: Map<string, number>

  constructor(native: Native, peer: Peer, bequest: Bequest, fds: readonly number[]) {
    this.bequest = bequest
    this.#native = native
    this.#peer = peer
    const keys = [...bequest.listeners.map(({ key }) => key), ...bequest.datagrams]
    this.#listeners = new Map(keys.map((key, index) => [key, fds[index] as number]))
  }

  takeListener(key: string): number | undefined {
    const fd = this.#listeners.get(key)
    this.#listeners.delete(key)
    return fd
  }

  open(): Opened {
    return this.play(({ message, segments }, fds) => {
      if (message.type !== 'transfer' || message.count !== fds.length) throw new Error('the keeper has something else')
      return { record: message, segments, fds, failed: new Map(), sameSockets: true }
    })
  }

  /** Lets the keeper bring the descriptors, up to the message that is not one of them. */
  protected play(finish: (last: Received, fds: number[]) => Opened): Opened {
    const { channel } = this.#peer
    const fds: number[] = []
    try {
      channel.send({ type: 'go' })
      for (;;) {
        const received = channel.receive(OPEN_MS)
        if (received === undefined) throw new Error(`the keeper sent nothing for ${OPEN_MS} ms`)
        fds.push(...received.fds)
        if (received.message.type !== 'fds') return finish(received, fds)
      }
    } catch (error) {
      channel.closeFds(fds)
      throw error
    }
  }

  /** A keeper that has played everything waits for this word, or for the end of this process, and for nothing else: one that is gone was killed. */
  commit(): void {
    try {
      this.#peer.channel.send({ type: 'commit' }, { timeoutMs: -1 })
    } catch (error) {
      if (!['EPIPE', 'ECONNRESET'].includes((error as { code?: string }).code ?? '')) throw error
    }
  }

  resumed(): void {
    this.close()
  }

  close(): void {
    this.#native.closeFds(Int32Array.from(this.#listeners.values()))
    this.#listeners.clear()
    this.#peer.channel.close()
    this.#peer.closePidfd()
  }
}

const OPEN_MS = 10_000
