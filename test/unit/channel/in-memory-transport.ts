import type { Transport } from '../../../src/channel/channel.js'

/** One end of a connection within this test. It is read only when the test says so: `turn` is one turn of an event loop. */
export interface MemoryEnd extends Transport {
  turn(): void
  readonly closedFds: number[]
  /** What blocking receives were given as time-out, which passes at once. */
  readonly waits: number[]
  readonly sendTimeouts: number[]
  readonly isWatched: boolean
  readonly isOpen: boolean
}

export function memoryPair(): [MemoryEnd, MemoryEnd] {
  const left = new End()
  const right = new End()
  left.other = right
  right.other = left
  return [left, right]
}

class End implements MemoryEnd {
  other!: End
  readonly closedFds: number[] = []
  readonly waits: number[] = []
  readonly sendTimeouts: number[] = []
  isOpen = true
  readonly #queue: { bytes: Buffer; fds: number[] }[] = []
  #onReadable: (() => void) | undefined

  get isWatched(): boolean {
    return this.#onReadable !== undefined
  }

  send(chunks: readonly Uint8Array[], fds: readonly number[], timeoutMs: number): void {
    this.sendTimeouts.push(timeoutMs)
    if (!this.other.isOpen) throw Object.assign(new Error('sendmsg EPIPE'), { code: 'EPIPE' })
    this.other.#queue.push({ bytes: Buffer.concat(chunks), fds: [...fds] })
  }

  receive(into: Uint8Array, timeoutMs: number): { bytes: number; fds: number[] } | undefined {
    this.waits.push(timeoutMs)
    const [next] = this.#queue
    if (next === undefined) return this.other.isOpen ? undefined : { bytes: 0, fds: [] }
    const bytes = Math.min(into.length, next.bytes.length)
    into.set(next.bytes.subarray(0, bytes))
    next.bytes = next.bytes.subarray(bytes)
    if (next.bytes.length === 0) this.#queue.shift()
    return { bytes, fds: next.fds.splice(0) }
  }

  watch(onReadable: () => void): () => void {
    this.#onReadable = onReadable
    return () => {
      this.#onReadable = undefined
    }
  }

  turn(): void {
    if (this.#queue.length > 0 || !this.other.isOpen) this.#onReadable?.()
  }

  closeFds(fds: readonly number[]): void {
    this.closedFds.push(...fds)
  }

  close(): void {
    this.isOpen = false
  }
}
