import type { Received } from '../channel/codec.js'
import { PROTOCOL } from '../channel/messages.js'
import { connectPeer, type Peer } from '../channel/peer.js'
import { controlDirectory, controlSocketPath, isSameFamily } from '../channel/rendezvous.js'
import { TsunagiError } from '../errors.js'
import type { Installation } from '../installation.js'
import { VERSION } from '../version.js'
import { awaitAnswer, LOOKUP_TIMEOUT, refusedError, silent } from './lookup.js'
import { Session } from './session.js'

/**
 * Looks for the process that holds an address, and asks it for its listener or UDP socket: `undefined` where nobody of tsunagi's is there, or only a relative.
 * Blocks, each step bounded by LOOKUP_TIMEOUT, an answer of a busy process by 10 s. Throws ERR_TSUNAGI_LOOKUP, _PEER, _BUSY, _PROTOCOL, _DIRECTORY.
 */
export function openSession(installation: Installation, key: string): { session: Session; fd: number } | undefined {
  const met = meet(installation, key, 1)
  return met && { session: met.session, fd: met.fds[0] as number }
}

/** The same for the worker that this one replaces, which has no listener to give: its servers are claimed one by one. */
export function openWorkerSession(installation: Installation, place: string): Session | undefined {
  return meet(installation, place, 0)?.session
}

/** The same for a process of this name, whose address may be another. */
export function openNamedSession(installation: Installation, name: string): Session | undefined {
  const session = meet(installation, name, 0)?.session
  if (session) session.name = name
  return session
}

/** The same for the successor on trial, which gives back what it was lent; it knows this process by the key that it has told. */
export function openLentSession({ env }: Installation, key: string): Session | undefined {
  return meet({ env, token: key }, key, 0)?.session
}

interface Met {
  readonly session: Session
  readonly fds: readonly number[]
}

function meet({ env, token }: Pick<Installation, 'env' | 'token'>, key: string, fds: number): Met | undefined {
  const path = controlSocketPath(controlDirectory(env.environment), key)
  let peer: Peer
  try {
    peer = connectPeer(env.native, path, LOOKUP_TIMEOUT)
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code
    if (code === 'ENOENT' || code === 'ECONNREFUSED') return undefined
    throw new TsunagiError(
      'ERR_TSUNAGI_LOOKUP',
      `${key} is in use, and the control socket of the process that holds it, ${path}, could not be reached: ${(cause as Error).message}.`,
      {
        phase: 'negotiate',
        cause,
      },
    )
  }
  try {
    return greet(peer, key, token, fds)
  } catch (error) {
    leave(peer)
    throw error
  }
}

function greet(peer: Peer, address: string, token: string, wanted: number): Met | undefined {
  const { uid, pid } = peer.credentials
  const own = process.geteuid?.() ?? 0
  if (uid !== own) {
    throw new TsunagiError(
      'ERR_TSUNAGI_PEER',
      `${address} is held by process ${pid} of uid ${uid}; this process runs as uid ${own} and takes nothing from it. Start the new version as the same user.`,
      {
        phase: 'negotiate',
      },
    )
  }
  // A parent that waits for us, blocked, could not even say that it is one (P9); nor could we, when another of our servers listens there.
  if (pid === process.pid || (token === '' && isSameFamily(pid, process.pid))) return leave(peer)
  peer.channel.send(
    {
      type: 'hello',
      protocolMin: PROTOCOL.min,
      protocolMax: PROTOCOL.max,
      pid: process.pid,
      version: VERSION,
      node: process.version,
      address,
      token,
    },
    { timeoutMs: LOOKUP_TIMEOUT },
  )
  const answer = receiveUnlessDead(peer)
  if (answer === 'dead') return leave(peer) // the address is free by now
  if (answer === undefined) throw silent(address, pid)
  const { message, fds } = answer
  if (message.type === 'welcome' && fds.length === wanted && speaks(message.protocol))
    return { session: new Session(peer, message.pid, message.generation), fds }
  peer.channel.closeFds(fds)
  if (message.type === 'welcome' && !speaks(message.protocol))
    throw new TsunagiError(
      'ERR_TSUNAGI_PROTOCOL',
      `Process ${pid} (tsunagi ${message.version}), which holds ${address}, chose protocol ${message.protocol}; this process speaks ${PROTOCOL.min} to ${PROTOCOL.max} (tsunagi ${VERSION}). It goes on serving.`,
      { phase: 'negotiate', serving: true },
    )
  if (message.type !== 'refused')
    throw new TsunagiError('ERR_TSUNAGI_PROTOCOL', `Process ${pid}, which holds ${address}, answered with "${message.type}".`, {
      phase: 'negotiate',
    })
  leave(peer)
  if (message.code === 'RELATED') return undefined
  throw refusedError(message.code, message.reason, address)
}

function leave(peer: Peer): undefined {
  peer.channel.close()
  peer.closePidfd()
}

function receiveUnlessDead(peer: Peer): Received | 'dead' | undefined {
  try {
    return awaitAnswer(peer.channel, peer.credentials.pid)
  } catch (error) {
    if ((error as TsunagiError).code === 'ERR_TSUNAGI_CHANNEL_CLOSED' && peer.provesDeath(DEATH_TIMEOUT)) return 'dead'
    throw error
  }
}

function speaks(protocol: number): boolean {
  return protocol >= PROTOCOL.min && protocol <= PROTOCOL.max
}

/** A process that dies closes its descriptors a moment before it counts as dead, ms. */
const DEATH_TIMEOUT = 1_000
