import type { AttachedServer } from '../attached-server.js'
import type { Channel } from '../channel/channel.js'
import type { Received } from '../channel/codec.js'
import { type Message, type MessageOf, type MessageType, PROTOCOL } from '../channel/messages.js'
import { connectPeer, type Peer } from '../channel/peer.js'
import { controlDirectory, controlSocketPath, isSameFamily } from '../channel/rendezvous.js'
import { ERROR_CODES, type ErrorCode, TsunagiError } from '../errors.js'
import type { Installation } from '../installation.js'
import { VERSION } from '../version.js'

/** One predecessor that this process has found, and the listeners it was given a copy of. */
export class Session {
  readonly peer: Peer
  readonly predecessor: number
  /** Generation of the predecessor. */
  readonly generation: number
  /** By the predecessor's key of each server, which is ours as well unless it was found by name. */
  readonly claimed = new Map<string, AttachedServer>()
  /** What it was found by, if not by an address. */
  name: string | undefined
  /** Servers that listen on an address of their own, and accept there once the connections of the predecessor's are here. */
  readonly waiting = new Set<AttachedServer>()
  /** Keys of its UDP sockets that this process has a copy of. */
  readonly datagrams = new Set<string>()
  readonly #failed: Promise<never>
  #fail!: (reason: Error) => void
  #waiting: ((message: Message) => void) | undefined
  readonly #inbox: Message[] = []

  constructor(peer: Peer, predecessor: number, generation: number) {
    this.peer = peer
    this.predecessor = predecessor
    this.generation = generation
    this.#failed = new Promise((_, reject) => {
      this.#fail = reject
    })
    this.#failed.catch(() => {}) // whoever waits sees it; afterwards nobody does
  }

  get channel(): Channel {
    return this.peer.channel
  }

  /** Asks for one more listener of the same process. Blocks, bounded. */
  claim(attached: AttachedServer): number | undefined {
    const fd = this.#claimFd(attached.key)
    if (fd !== undefined) this.claimed.set(attached.key, attached)
    return fd
  }

  /** The same for a UDP socket. */
  claimDatagrams(key: string): number | undefined {
    const fd = this.#claimFd(key)
    if (fd !== undefined) this.datagrams.add(key)
    return fd
  }

  #claimFd(key: string): number | undefined {
    const [fd, ...surplus] = this.#claim(key).fds
    this.channel.closeFds(surplus)
    return fd
  }

  /** Asks for the connections of a server whose listener is the cluster's primary's. Blocks, bounded. */
  claimShared(attached: AttachedServer): boolean {
    const { message, fds } = this.#claim(attached.key)
    this.channel.closeFds(fds)
    if (message.found) this.claimed.set(attached.key, attached)
    return message.found
  }

  /** A server of ours whose address was free: it is served here in any case. Its counterpart is asked for by `claimNamed`. */
  await(attached: AttachedServer): void {
    this.waiting.add(attached)
    this.claimed.set(attached.key, attached)
  }

  /** Of a process found by its name: the connections of the server that answers to this one of ours, whose own listener stays what it is. Blocks, bounded. */
  claimNamed(attached: AttachedServer, place: string): void {
    const { message, fds } = this.#claim(place)
    this.channel.closeFds(fds)
    this.claimed.delete(attached.key)
    if (message.found && !this.claimed.has(message.address)) return void this.claimed.set(message.address, attached)
    this.claimed.set(attached.key, attached)
    throw new TsunagiError(
      'ERR_TSUNAGI_REFUSED',
      `Process ${this.predecessor} has no server that answers to "${place}": found by a name, both versions need as many servers. It goes on serving.`,
      { phase: 'negotiate', serving: true },
    )
  }

  #claim(key: string): Received & { message: MessageOf<'listener'> } {
    this.channel.send({ type: 'claim', address: key }, { timeoutMs: LOOKUP_TIMEOUT })
    for (;;) {
      const answer = this.channel.receive(LOOKUP_TIMEOUT)
      if (answer === undefined) throw silent(key, this.predecessor)
      if (answer.message.type === 'listener') return answer as Received & { message: MessageOf<'listener'> }
      this.#deliver(answer) // it was on its way
    }
  }

  /** Reads the channel on the event loop: answers go to `next`, a refusal or the end of the channel to `failed`. */
  listen(): void {
    this.channel.listen({
      onMessage: (received) => this.#deliver(received),
      onClose: (reason) => this.#fail(reason),
    })
  }

  /** Rejects when the predecessor refuses or its end of the channel closes; never resolves. */
  get failed(): Promise<never> {
    return this.#failed
  }

  #deliver({ message, fds }: Received): void {
    this.channel.closeFds(fds)
    if (message.type === 'refused') this.#fail(refusedError(message.code, message.reason, [...this.claimed.keys()].join(', ')))
    else if (this.#waiting) this.#waiting(message)
    else this.#inbox.push(message)
  }

  /** The next message, which has to be of this type. */
  async next<T extends MessageType>(type: T): Promise<MessageOf<T>> {
    const message =
      this.#inbox.shift() ??
      (await Promise.race([
        new Promise<Message>((resolve) => {
          this.#waiting = resolve
        }),
        this.#failed,
      ]))
    this.#waiting = undefined
    if (message.type !== type)
      throw new TsunagiError('ERR_TSUNAGI_PROTOCOL', `The predecessor sent "${message.type}" where "${type}" was due.`, { phase: 'arm' })
    return message as MessageOf<T>
  }

  /** Sends what a dead predecessor need not hear. A stopped one will: this waits for as long as it takes. */
  tell(message: Message): void {
    try {
      this.channel.send(message, { timeoutMs: -1 })
    } catch (error) {
      if (!['EPIPE', 'ECONNRESET', 'ERR_TSUNAGI_CHANNEL_CLOSED'].includes((error as { code?: string }).code ?? '')) throw error
    }
  }

  close(reason?: Error): void {
    this.channel.close(reason)
    this.peer.closePidfd()
  }
}

/**
 * Looks for the process that holds an address, and asks it for its listener or UDP socket: `undefined` where nobody of tsunagi's is there, or only a relative.
 * Blocks, bounded by LOOKUP_TIMEOUT for each step. Throws ERR_TSUNAGI_LOOKUP, _PEER, _BUSY, _PROTOCOL, _DIRECTORY.
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

interface Met {
  readonly session: Session
  readonly fds: readonly number[]
}

function meet({ env, token }: Installation, key: string, fds: number): Met | undefined {
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
    return peer.channel.receive(LOOKUP_TIMEOUT)
  } catch (error) {
    if ((error as TsunagiError).code === 'ERR_TSUNAGI_CHANNEL_CLOSED' && peer.provesDeath(DEATH_TIMEOUT)) return 'dead'
    throw error
  }
}

function speaks(protocol: number): boolean {
  return protocol >= PROTOCOL.min && protocol <= PROTOCOL.max
}

/** What a server emits when the predecessor does not hand over. */
export function refusedError(code: string, reason: string, address: string): TsunagiError {
  const known = Object.hasOwn(ERROR_CODES, code) ? (code as ErrorCode) : 'ERR_TSUNAGI_REFUSED'
  const next = known === 'ERR_TSUNAGI_BUSY' ? ' Start it again once that is done.' : ' The predecessor goes on serving.'
  return new TsunagiError(known, `The handover of ${address} was refused: ${reason}.${next}`, { phase: 'negotiate', serving: true })
}

function silent(address: string, pid: number): TsunagiError {
  return new TsunagiError(
    'ERR_TSUNAGI_LOOKUP',
    `${address} is held by process ${pid}, which did not answer within ${LOOKUP_TIMEOUT} ms. It is stopped or very busy: start again, or end it.`,
    { phase: 'negotiate', serving: true },
  )
}

/** Milliseconds that `listen()` may block for one answer of the predecessor. */
export const LOOKUP_TIMEOUT = 2_000
/** A process that dies closes its descriptors a moment before it counts as dead, ms. */
const DEATH_TIMEOUT = 1_000
