import type { Received } from '../channel/codec.js'
import { MAX_FDS_PER_MESSAGE, type MessageOf } from '../channel/messages.js'
import type { Installation } from '../installation.js'
import { OURS } from '../triggers/given.js'
import type { Systemd } from '../triggers/systemd.js'
import type { Bequest, Held, Holder, Opened, Put } from './holder.js'
import { keysOf } from './keys.js'
import { memoryOf, readFrames } from './memory.js'

/**
 * systemd's descriptor store, for `systemctl restart`. The record is a sealed memory file; the connections lie in the queue of a socket pair, of which systemd
 * stores one end: it compares each descriptor with all that it has, and 4,000 single ones would cost it 8 s. The listeners are there since they listen.
 *
 * systemd says neither that its store is off nor that it is full, it closes what it does not take. The other end of the pair hears that.
 */
export const systemdStore: Holder = {
  name: 'systemd',
  keepsListeners: true,

  unavailable({ systemd }) {
    if (systemd === undefined) return 'this process is not the main process of a unit with Type=notify'
    return systemd.hasStore === false ? 'its descriptor store is off or full (FileDescriptorStoreMax=)' : undefined
  },

  put({ env: { native }, systemd, servers }, { bequest, record, segments, fds }): Put {
    if (systemd === undefined) throw new Error('there is no notify socket')
    const [near, far] = native.socketPair()
    const memory = native.sealedMemory(memoryOf({ bequest, record, segments }))
    try {
      for (let at = 0; at < fds.length; at += MAX_FDS_PER_MESSAGE) queue(native, near, fds.subarray(at, at + MAX_FDS_PER_MESSAGE))
      for (const attached of servers) systemd.storeListenerOrThrow(attached)
      systemd.storeOrThrow(RECORD, memory)
      systemd.storeOrThrow(CONNECTIONS, far)
      native.closeFds(Int32Array.of(far))
      if (!systemd.barrierNow(PUT_MS)) throw new Error(`systemd did not take them within ${PUT_MS} ms`)
      // From 254 on, which says how many places there are, it closes what it does not take a little later.
      const late = systemd.places === undefined ? 0 : LATE_MS
      if (native.pollReadable(Int32Array.of(near), late).length > 0)
        throw new Error('its descriptor store is full (FileDescriptorStoreMax=)')
      systemd.notify(['STOPPING=1', 'STATUS=left to the next start'])
    } catch (error) {
      drop(systemd)
      native.closeFds(Int32Array.of(near, far))
      throw error
    } finally {
      native.closeFds(Int32Array.of(memory))
    }
    return { where: 'until the service stops', discard: () => drop(systemd) }
  },

  find(installation, key): Held | undefined {
    const { systemd } = installation
    if (!systemd?.given.has(RECORD)) return undefined
    const held = new HeldBySystemd(installation, systemd)
    return keysOf(held.bequest).includes(key) ? held : undefined
  },
}

/** @note unix(7): a user without CAP_SYS_RESOURCE may have no more descriptors in queues, of all its processes, than one of them may open. */
function queue(native: Installation['env']['native'], near: number, fds: Int32Array): void {
  try {
    native.sendMessage(near, [MARK], fds, PUT_MS)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ETOOMANYREFS') throw error
    throw new Error(`processes of uid ${process.geteuid?.()} have too many descriptors under way (ETOOMANYREFS): raise LimitNOFILE=`)
  }
}

function drop(systemd: Systemd): void {
  systemd.remove(RECORD)
  systemd.remove(CONNECTIONS)
}

class HeldBySystemd implements Held {
  readonly holder = 'systemd'
  readonly bequest: Bequest
  readonly #record: Received & { message: MessageOf<'transfer'> }
  readonly #installation: Installation
  readonly #systemd: Systemd
  #queue: number | undefined

  constructor(installation: Installation, systemd: Systemd) {
    this.#installation = installation
    this.#systemd = systemd
    const memory = systemd.given.take(RECORD) as number
    try {
      const [bequest, record] = readFrames(memory)
      if (bequest?.message.type !== 'bequest' || record?.message.type !== 'transfer')
        throw new Error('what systemd has kept is not what was left')
      this.bequest = bequest.message
      this.#record = { ...record, message: record.message }
    } finally {
      installation.env.native.closeFds(Int32Array.of(memory))
    }
  }

  takeListener(key: string): number | undefined {
    return this.#systemd.given.takeListener(key)
  }

  /** systemd keeps its own: what is in the queue of the socket pair is only looked at. */
  open(): Opened {
    const { native } = this.#installation.env
    const queue = this.#takeQueue()
    if (queue === undefined) throw new Error('systemd has not kept the connections, or a process that died has taken them')
    const fds = native.peekFds(queue)
    const { message, segments } = this.#record
    if (fds.length !== message.count) {
      native.closeFds(Int32Array.from(fds))
      throw new Error(`systemd has kept ${fds.length} of ${message.count} connections`)
    }
    return { record: message, segments, fds, failed: new Map(), sameSockets: true }
  }

  /** systemd reads what it was told before it hears that a process has ended: nobody gets them after this. */
  commit(): void {
    this.#systemd.removeOrThrow(CONNECTIONS)
  }

  resumed(): void {
    this.close()
  }

  /** Whoever serves without them is not followed by anybody who could take them: in the store they would stay open for ever. */
  close(): void {
    const queue = this.#takeQueue()
    if (queue !== undefined) this.#installation.env.native.closeFds(Int32Array.of(queue))
    this.#queue = undefined
    drop(this.#systemd)
  }

  #takeQueue(): number | undefined {
    this.#queue ??= this.#systemd.given.take(CONNECTIONS)
    return this.#queue
  }
}

const RECORD = `${OURS}record`
const CONNECTIONS = `${OURS}connections`
/** A descriptor goes with a byte. */
const MARK = Uint8Array.of(0)
/** Milliseconds; systemd takes a fraction of one. */
const PUT_MS = 2_000
const LATE_MS = 20
