import { lstatSync, readFileSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { Channel } from '../channel/channel.js'
import { connectPeer, type Peer, unixTransport } from '../channel/peer.js'
import { controlDirectory, controlSocketPath } from '../channel/rendezvous.js'
import { Deadline } from '../handover/deadline.js'
import type { Installation } from '../installation.js'
import { packageRoot } from '../native/binding.js'
import { holdTime } from '../options.js'
import { LOOKUP_TIMEOUT, refusedError } from '../successor/lookup.js'
import type { Bequest, Held, Holder, Opened, Put } from './holder.js'
import { recordTape, sendTape } from './tape.js'

/**
 * The keeper: a process of a few hundred kilobytes (addon/keeper) that is started at the leave, from memory, and holds the descriptors and the record for
 * `TSUNAGI_HOLD` seconds. It is found under the address, by the same user, like a live process; while it holds, the kernel acknowledges, buffers and queues.
 */
export const keeper: Holder = {
  name: 'keeper',
  keepsListeners: true,

  prepare({ env }) {
    programs.set(env, readProgram())
  },

  unavailable({ env, systemd }) {
    if (systemd) return 'systemd would end it together with the service'
    return programs.get(env) ? undefined : `${programFile()} is missing`
  },

  put(installation, bundle): Put {
    const { env } = installation
    const program = programs.get(env)
    if (program === undefined) throw new Error(`${programFile()} is missing`)
    const holdMs = holdTime(env.environment)
    const directory = controlDirectory(env.environment)
    const names = [join(directory, `.${process.pid}.keep`), ...bundle.bequest.listeners.map(({ key }) => keeperPath(directory, key))]
    const fd = env.native.startKeeper(program)
    const channel = new Channel(unixTransport(env.native, fd))
    try {
      const deadline = new Deadline(env.now, PUT_MS + bundle.fds.length * PUT_MS_A_CONNECTION)
      sendTape(env, fd, recordTape(bundle, { names, holdMs, patienceMs: PATIENCE_MS }), deadline)
      env.fault('keeper-before-ack')
      if (channel.expect('ack', deadline.left) === undefined) throw new Error('it has not taken everything in time')
      env.fault('keeper-before-commit')
      channel.send({ type: 'commit' }) // until here it would go without a word
    } catch (error) {
      channel.close()
      throw error
    }
    return {
      where: `for ${holdMs / 1000} s`,
      discard() {
        try {
          if (!channel.closed) channel.send({ type: 'commit' })
        } catch {
          // It has gone, and what it held with it.
        }
      },
    }
  },

  find({ env }, key): Held | undefined {
    const path = keeperPath(controlDirectory(env.environment), key)
    const peer = connect(env.native, path)
    return peer && greet(env.native, peer, key)
  },
}

type Env = Installation['env']

/** Read at start by each process that may need it. */
const programs = new WeakMap<Env, Uint8Array | undefined>()

function programFile(): string {
  return join(packageRoot(), 'prebuilds', `linux-${process.arch}`, 'tsunagi-keeper')
}

function readProgram(): Uint8Array | undefined {
  try {
    return readFileSync(programFile())
  } catch {
    return undefined // said where it would be needed
  }
}

/** Beside the control socket of a process that serves the address. */
function keeperPath(directory: string, key: string): string {
  return controlSocketPath(directory, key).replace(/\.sock$/, '.keep')
}

function connect(native: Env['native'], path: string): Peer | undefined {
  try {
    return connectPeer(native, path, LOOKUP_TIMEOUT)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    // A keeper that was killed leaves its name.
    if (code === 'ECONNREFUSED' && lstatSync(path, { throwIfNoEntry: false })) unlinkSync(path)
    if (code === 'ECONNREFUSED' || code === 'ENOENT') return undefined
    throw error
  }
}

/** What it shows first are the listeners and who has left them. */
function greet(native: Env['native'], peer: Peer, key: string): Held | undefined {
  const { channel } = peer
  try {
    if (peer.credentials.uid !== (process.geteuid?.() ?? 0)) throw new Error(`it runs as uid ${peer.credentials.uid}`)
    const received = channel.receive(LOOKUP_TIMEOUT)
    if (received?.message.type === 'refused') throw refusedError(received.message.code, received.message.reason, key)
    if (received?.message.type !== 'bequest' || received.fds.length !== received.message.listeners.length) {
      channel.closeFds(received?.fds ?? [])
      throw new Error(`it ${received ? `sent "${received.message.type}"` : `said nothing within ${LOOKUP_TIMEOUT} ms`}`)
    }
    return new KeptByKeeper(native, peer, received.message, received.fds)
  } catch (error) {
    channel.close()
    peer.closePidfd()
    // Its time was over in this moment: the address is free.
    if ((error as { code?: string }).code === 'ERR_TSUNAGI_CHANNEL_CLOSED') return undefined
    throw error
  }
}

class KeptByKeeper implements Held {
  readonly holder = 'keeper'
  readonly bequest: Bequest
  readonly #native: Env['native']
  readonly #peer: Peer
  readonly #listeners: Map<string, number>

  constructor(native: Env['native'], peer: Peer, bequest: Bequest, fds: readonly number[]) {
    this.bequest = bequest
    this.#native = native
    this.#peer = peer
    this.#listeners = new Map(bequest.listeners.map(({ key }, index) => [key, fds[index] as number]))
  }

  takeListener(key: string): number | undefined {
    const fd = this.#listeners.get(key)
    this.#listeners.delete(key)
    return fd
  }

  open(): Opened {
    const { channel } = this.#peer
    const fds: number[] = []
    try {
      channel.send({ type: 'go' })
      for (;;) {
        const received = channel.receive(OPEN_MS)
        if (received === undefined) throw new Error(`the keeper sent nothing for ${OPEN_MS} ms`)
        const { message, segments } = received
        fds.push(...received.fds)
        if (message.type === 'fds') continue
        if (message.type !== 'transfer' || message.count !== fds.length) throw new Error('the keeper has something else')
        return { record: message, segments, fds, failed: new Map(), sameSockets: true }
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

/** PM2 kills 1.6 s after it has asked. 9,000 connections take 0.6 s on two cores that are busy with other things; whoever gives up loses them all. */
const PUT_MS = 1_000
const PUT_MS_A_CONNECTION = 0.2
/** How long a process that has found the keeper may take to boot, ms; the hold time counts for nobody. */
const PATIENCE_MS = 60_000
const OPEN_MS = 10_000
