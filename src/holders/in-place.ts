import type { Received } from '../channel/codec.js'
import type { MessageOf } from '../channel/messages.js'
import type { Installation } from '../installation.js'
import type { Bequest, Held, Holder, Opened, Put } from './holder.js'
import { keysOf } from './keys.js'
import { memoryOf, readFrames } from './memory.js'

/** What goes through `execve`: descriptors, and a variable of the environment that says which. */
export interface KeptInPlace {
  readonly name: string
  readonly value: string
  readonly fds: readonly number[]
}

/**
 * The process itself, which is about to become the next version: its descriptors stay open, and the record is a sealed memory file. Their numbers are the
 * same before and after; they travel in the environment, which is this process's own.
 */
export const inPlace: Holder = {
  name: 'in place',
  keepsListeners: true,

  unavailable: (installation) => (becoming.has(installation) ? undefined : 'this process does not become another program'),

  put(installation, { bequest, record, segments, fds, listeners, datagrams }): Put {
    const { native } = installation.env
    const copies = (list: Int32Array) => Array.from(list, (fd) => native.duplicateFd(fd))
    const held = { listeners: copies(listeners), datagrams: copies(datagrams), connections: copies(fds) }
    const memory = native.sealedMemory(memoryOf({ bequest, record, segments }))
    const numbers = [[memory], held.listeners, held.connections, held.datagrams]
    const value = numbers.map((list) => list.join(',')).join(';')
    kept.set(installation, { name: VARIABLE, value, fds: numbers.flat() })
    return { where: 'for the next version', discard: () => void native.closeFds(Int32Array.from(numbers.flat())) }
  },

  find(installation, key): Held | undefined {
    const held = inherited(installation)
    return held && keysOf(held.bequest).includes(key) ? held : undefined
  },
}

/** What was put by this process, which is about to become another program. */
export function keptInPlace(installation: Installation): KeptInPlace | undefined {
  return kept.get(installation)
}

/** From now on what is left stays here. Returns how to undo it. */
export function becomeInPlace(installation: Installation): () => void {
  becoming.add(installation)
  return () => void becoming.delete(installation)
}

const becoming = new WeakSet<Installation>()
const kept = new WeakMap<Installation, KeptInPlace>()
const found = new WeakMap<Installation, HeldInPlace | undefined>()

function inherited(installation: Installation): HeldInPlace | undefined {
  const { environment } = installation.env
  const given = environment[VARIABLE]
  if (given === undefined) return found.get(installation)
  delete environment[VARIABLE] // it is ours alone, not our children's
  const [[memory] = [], listeners = [], connections = [], datagrams = []] = given
    .split(';')
    .map((list) => list.split(',').filter(Boolean).map(Number))
  const held = new HeldInPlace(installation, memory as number, [...listeners, ...datagrams], connections)
  found.set(installation, held)
  return held
}

class HeldInPlace implements Held {
  readonly holder = 'in place'
  readonly bequest: Bequest
  readonly #record: Received & { message: MessageOf<'transfer'> }
  readonly #listeners: Map<string, number>
  readonly #connections: number[]

  constructor({ env: { native } }: Installation, memory: number, offered: number[], connections: number[]) {
    const [bequest, record] = readFrames(memory)
    native.closeFds(Int32Array.of(memory))
    if (bequest?.message.type !== 'bequest' || record?.message.type !== 'transfer') throw new Error('what was kept is not what was left')
    this.bequest = bequest.message
    this.#record = { ...record, message: record.message }
    // What comes through execve is not CLOEXEC any more, and a child of the application must not have it.
    const own = (fd: number) => {
      const copy = native.duplicateFd(fd)
      native.closeFds(Int32Array.of(fd))
      return copy
    }
    const keys = [...this.bequest.listeners.map(({ key }) => key), ...this.bequest.datagrams]
    this.#listeners = new Map(keys.map((key, i) => [key, own(offered[i] as number)]))
    this.#connections = connections.map(own)
  }

  takeListener(key: string): number | undefined {
    const fd = this.#listeners.get(key)
    this.#listeners.delete(key)
    return fd
  }

  open(): Opened {
    const { message, segments } = this.#record
    if (this.#connections.length !== message.count) throw new Error(`${this.#connections.length} of ${message.count} connections are here`)
    return { record: message, segments, fds: this.#connections, failed: new Map(), sameSockets: true }
  }

  commit(): void {} // they were this process's all the time

  resumed(): void {}

  close(): void {}
}

const VARIABLE = 'TSUNAGI_IN_PLACE'
