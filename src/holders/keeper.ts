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
import { KeptAfterCrash } from '../survive/kept-after-crash.js'
import { restarter } from '../triggers/pm2.js'
import type { Bequest, Held, Holder, Put } from './holder.js'
import { KeptByKeeper } from './kept-by-keeper.js'
import { keysOf } from './keys.js'
import { recordTape, sendTape, type Tape, type TapeSettings } from './tape.js'

/**
 * The keeper: a process of a few hundred kilobytes (addon/keeper) that is started at the leave, from memory, and holds the descriptors and the record for
 * `TSUNAGI_HOLD` seconds. It is found under the address, by the same user, like a live process; while it holds, the kernel acknowledges, buffers and queues.
 */
export const keeper: Holder = {
  name: 'keeper',
  keepsListeners: true,

  prepare({ env }) {
    prepareKeeper(env)
  },

  unavailable({ env, systemd }) {
    if (systemd) return 'systemd would end it together with the service'
    return programs.get(env) ? undefined : `${programFile()} is missing`
  },

  put(installation, bundle): Put {
    const { env } = installation
    const supervisor = restarter(installation)
    const settings = keeperSettings(env, 'keep', whereFound(bundle.bequest), supervisor)
    const deadline = new Deadline(env.now, PUT_MS + bundle.fds.length * PUT_MS_A_CONNECTION)
    const { channel } = startKeeper(env, recordTape(bundle, settings), deadline)
    try {
      env.fault('keeper-before-commit')
      channel.send({ type: 'commit' }) // until here it would go without a word
    } catch (error) {
      channel.close()
      throw error
    }
    return {
      where: `for ${settings.holdMs / 1000} s${supervisor ? ', or until it is clear that PM2 starts nobody' : ''}`,
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

/** Reads the program while it is on disk. */
export function prepareKeeper(env: Env): void {
  if (!programs.has(env)) programs.set(env, readProgram())
}

/** Starts a keeper with its tape; returns once it has everything. Throws otherwise, and then there is none. */
export function startKeeper(env: Env, tape: Tape, deadline: Deadline): { fd: number; channel: Channel } {
  const program = programs.get(env)
  if (program === undefined) throw new Error(`${programFile()} is missing`)
  const fd = env.native.startKeeper(program)
  const channel = new Channel(unixTransport(env.native, fd))
  try {
    sendTape(env, fd, tape, deadline)
    env.fault('keeper-before-ack')
    if (channel.expect('ack', deadline.left) === undefined) throw new Error('it has not taken everything in time')
    return { fd, channel }
  } catch (error) {
    channel.close()
    throw error
  }
}

/** For a keeper of these addresses; its private name is told from others of this process by `kind`. */
export function keeperSettings(
  { environment }: Env,
  kind: string,
  keys: readonly string[],
  supervisor?: TapeSettings['supervisor'],
): TapeSettings {
  const directory = controlDirectory(environment)
  const names = [join(directory, `.${process.pid}.${kind}`), ...keys.map((key) => keeperPath(directory, key))]
  return { names, holdMs: holdTime(environment, supervisor !== undefined), patienceMs: PATIENCE_MS, supervisor }
}

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

/** Several workers have a server for one address: each is found by its slot. */
function whereFound(bequest: Bequest): string[] {
  return keysOf({ ...bequest, shared: [] })
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
    if (received?.message.type !== 'bequest' || received.fds.length !== offeredBy(received.message)) {
      channel.closeFds(received?.fds ?? [])
      throw new Error(`it ${received ? `sent "${received.message.type}"` : `said nothing within ${LOOKUP_TIMEOUT} ms`}`)
    }
    if (received.message.ledger !== undefined) return new KeptAfterCrash(native, peer, received.message, received.fds)
    return new KeptByKeeper(native, peer, received.message, received.fds)
  } catch (error) {
    channel.close()
    peer.closePidfd()
    // Its time was over in this moment: the address is free.
    if ((error as { code?: string }).code === 'ERR_TSUNAGI_CHANNEL_CLOSED') return undefined
    throw error
  }
}

/** How many descriptors come with it. */
function offeredBy({ listeners, datagrams, ledger }: Bequest): number {
  return listeners.length + datagrams.length + (ledger === undefined ? 0 : 1)
}

/** PM2 kills 1.6 s after it has asked. 9,000 connections take 0.6 s on two cores that are busy with other things; whoever gives up loses them all. */
const PUT_MS = 1_000
const PUT_MS_A_CONNECTION = 0.2
/** How long a process that has found the keeper may take to boot, ms; the hold time counts for nobody. */
const PATIENCE_MS = 60_000
