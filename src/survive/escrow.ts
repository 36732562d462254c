import type { Channel } from '../channel/channel.js'
import { MAX_FDS_PER_MESSAGE } from '../channel/messages.js'
import type { Env } from '../env.js'
import { Deadline } from '../handover/deadline.js'
import type { Bequest } from '../holders/holder.js'
import { keeperSettings, startKeeper } from '../holders/keeper.js'
import { escrowTape, sendTape } from '../holders/tape.js'

/** What the keeper shows first: who has crashed, and its listeners. */
export interface Offer {
  readonly bequest: Bequest
  /** Of the listeners, in their order, and of the ledger. */
  readonly fds: readonly number[]
}

/**
 * The keeper of a process that lives. It has a copy of every connection, by places; what comes and goes within one turn of the loop is told in one message
 * (of up to 252). Its one rule: whatever becomes of the keeper, this process serves on. One that is slow is told later.
 *
 *   order   what u32 | count u32 | place u32 × count          put: with a descriptor for each; drop; go: the server leaves by itself; tape: a new offer follows
 *
 * @note addon/keeper/escrow.c reads it.
 */
export class Escrow {
  readonly #env: Env
  readonly #fd: number
  readonly #channel: Channel
  readonly #puts = new Map<number, number>()
  #drops: number[] = []
  #flushes = false

  /** Starts a keeper. Throws where that cannot be done. `onGone`: it has ended, or cannot be told anything any more. */
  constructor(env: Env, offer: Offer, onGone: (reason: Error) => void) {
    this.#env = env
    const { fd, channel } = startKeeper(env, tapeOf(env, offer), new Deadline(env.now, START_MS))
    this.#fd = fd
    this.#channel = channel
    channel.listen({ onMessage: () => {}, onClose: onGone })
  }

  put(place: number, fd: number): void {
    this.#puts.set(place, fd)
    this.#flushSoon()
  }

  /** Before its descriptor is closed. */
  drop(place: number): void {
    if (this.#puts.delete(place)) return // it never got there
    this.#drops.push(place)
    this.#flushSoon()
  }

  /** This process listens elsewhere from now on. */
  offer(offer: Offer): void {
    this.#tell(() => {
      this.#order(ORDER.tape, [], [], TELL_MS)
      sendTape(this.#env, this.#fd, tapeOf(this.#env, offer), new Deadline(this.#env.now, TELL_MS))
    })
  }

  /** It lets go of everything. Returns once its names are free, or after a moment: one that cannot be told goes by itself, since this process has not died. */
  goodbye(): void {
    if (this.#channel.closed) return
    this.#channel.pause()
    try {
      this.#order(ORDER.go, [], [], TELL_MS)
      this.#env.native.pollReadable(Int32Array.of(this.#fd), TELL_MS)
    } catch {
      // It has gone before.
    }
    this.#channel.close()
  }

  #flushSoon(): void {
    if (this.#flushes) return
    this.#flushes = true
    setImmediate(() => this.#tell(() => this.#flush()))
  }

  /** Drops first: a place may be another connection's by now. */
  #flush(): void {
    this.#flushes = false
    while (this.#drops.length > 0) {
      this.#order(ORDER.drop, this.#drops.slice(0, MAX_FDS_PER_MESSAGE), [], 0)
      this.#drops = this.#drops.slice(MAX_FDS_PER_MESSAGE)
    }
    while (this.#puts.size > 0) {
      const batch = [...take(this.#puts, MAX_FDS_PER_MESSAGE)]
      const places = batch.map(([place]) => place)
      this.#order(
        ORDER.put,
        places,
        batch.map(([, fd]) => fd),
        0,
      )
      for (const place of places) this.#puts.delete(place)
    }
  }

  /** Of so few bytes the kernel takes all or nothing. */
  #order(what: number, places: readonly number[], fds: readonly number[], timeoutMs: number): void {
    this.#env.native.sendMessage(this.#fd, [bytesOf([what, places.length, ...places])], Int32Array.from(fds), timeoutMs)
  }

  #tell(act: () => void): void {
    if (this.#channel.closed) return
    try {
      act()
    } catch (error) {
      if (!LATER.has((error as NodeJS.ErrnoException).code ?? '')) return this.#channel.close(error as Error)
      this.#flushes = true
      setTimeout(() => this.#tell(() => this.#flush()), LATER_MS).unref()
    }
  }
}

function tapeOf(env: Env, { bequest, fds }: Offer) {
  const keys = bequest.listeners.map(({ key }) => key)
  return escrowTape(bequest, fds, keeperSettings(env, 'guard', keys))
}

function* take<K, V>(map: ReadonlyMap<K, V>, count: number): Iterable<[K, V]> {
  let left = count
  for (const entry of map) {
    if (left-- === 0) return
    yield entry
  }
}

function bytesOf(numbers: readonly number[]): Uint8Array {
  const bytes = Buffer.allocUnsafe(4 * numbers.length)
  for (const [i, number] of numbers.entries()) bytes.writeUInt32LE(number, 4 * i)
  return bytes
}

const ORDER = { put: 1, drop: 2, go: 3, tape: 4 } as const
/** It reads late, or more descriptors are under way than this user may have (unix(7)). */
const LATER = new Set(['ETIMEDOUT', 'EAGAIN', 'ETOOMANYREFS', 'ENOBUFS'])
const LATER_MS = 10
const START_MS = 5_000
const TELL_MS = 1_000
