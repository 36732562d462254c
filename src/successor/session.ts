import type { AttachedServer } from '../attached-server.js'
import type { Channel } from '../channel/channel.js'
import { connectPeer, type Peer } from '../channel/control-socket.js'
import { type Message, type MessageOf, type MessageType, PROTOCOL } from '../channel/messages.js'
import { controlDirectory, controlSocketPath } from '../channel/rendezvous.js'
import { ERROR_CODES, type ErrorCode, TsunagiError } from '../errors.js'
import { isAlive } from '../handover/is-alive.js'
import type { Installation } from '../installation.js'
import type { Native } from '../native/native.js'
import { VERSION } from '../version.js'

/** One predecessor that this process has found, and the listeners it was given a copy of. */
export class Session {
  readonly peer: Peer
  readonly predecessor: number
  /** Generation of the predecessor. */
  readonly generation: number
  readonly claimed = new Map<string, AttachedServer>()
  readonly #failed: Promise<never>
  #fail!: (reason: Error) => void
  #waiting: ((message: Message) => void) | undefined

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
    this.channel.send({ type: 'claim', address: attached.key }, { timeoutMs: LOOKUP_TIMEOUT })
    const answer = this.channel.expect('listener', LOOKUP_TIMEOUT)
    if (answer === undefined) throw silent(attached.key, this.predecessor)
    const [fd, ...surplus] = answer.fds
    this.channel.closeFds(surplus)
    if (fd !== undefined) this.claimed.set(attached.key, attached)
    return fd
  }

  /** Reads the channel on the event loop: answers go to `next`, a refusal or the end of the channel to `failed`. */
  listen(): void {
    this.channel.listen({
      onMessage: ({ message, fds }) => {
        this.channel.closeFds(fds)
        if (message.type === 'refused') this.#fail(refusedError(message.code, message.reason, [...this.claimed.keys()].join(', ')))
        else this.#waiting?.(message)
      },
      onClose: (reason) => this.#fail(reason),
    })
  }

  /** Rejects when the predecessor refuses or its end of the channel closes; never resolves. */
  get failed(): Promise<never> {
    return this.#failed
  }

  /** The next message, which has to be of this type. */
  async next<T extends MessageType>(type: T): Promise<MessageOf<T>> {
    const message = await Promise.race([
      new Promise<Message>((resolve) => {
        this.#waiting = resolve
      }),
      this.#failed,
    ])
    this.#waiting = undefined
    if (message.type !== type)
      throw new TsunagiError('ERR_TSUNAGI_PROTOCOL', `The predecessor sent "${message.type}" where "${type}" was due.`, { phase: 'arm' })
    return message as MessageOf<T>
  }

  /** Sends the ack. A predecessor that has died meanwhile cannot take it: the verdict is then its death. */
  acknowledge(refused: [number, string][]): void {
    this.tell({ type: 'ack', refused })
  }

  /** Sends what a dead predecessor need not hear. */
  tell(message: Message): void {
    try {
      this.channel.send(message)
    } catch (error) {
      if (!['EPIPE', 'ECONNRESET', 'ERR_TSUNAGI_CHANNEL_CLOSED'].includes((error as { code?: string }).code ?? '')) throw error
    }
  }

  /** Whether the predecessor is dead for certain, waiting up to `timeoutMs` for it to become so. */
  provesDeath(native: Native, timeoutMs: number): boolean {
    const { pidfd, credentials } = this.peer
    if (pidfd >= 0) return native.pollReadable(Int32Array.of(pidfd), timeoutMs).length > 0
    const end = performance.now() + timeoutMs
    while (isAlive(credentials.pid)) {
      if (performance.now() > end) return false
      native.pollReadable(new Int32Array(), 10)
    }
    return true
  }

  close(reason?: Error): void {
    this.channel.close(reason)
    this.peer.closePidfd()
  }
}

/**
 * Looks for the process that holds an address, and asks it for its listener: `undefined` where nobody of tsunagi's is there, or only a relative.
 * Blocks, bounded by LOOKUP_TIMEOUT for each step. Throws ERR_TSUNAGI_LOOKUP, _PEER, _BUSY, _PROTOCOL, _DIRECTORY.
 */
export function openSession({ env, token }: Installation, attached: AttachedServer): { session: Session; fd: number } | undefined {
  const path = controlSocketPath(controlDirectory(env.environment), attached.key)
  let peer: Peer
  try {
    peer = connectPeer(env.native, path, LOOKUP_TIMEOUT)
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code
    if (code === 'ENOENT' || code === 'ECONNREFUSED') return undefined
    throw new TsunagiError(
      'ERR_TSUNAGI_LOOKUP',
      `${attached.key} is in use, and the control socket of the process that holds it, ${path}, could not be reached: ${(cause as Error).message}.`,
      {
        phase: 'negotiate',
        cause,
      },
    )
  }
  try {
    return greet(peer, attached, token)
  } catch (error) {
    peer.channel.close()
    peer.closePidfd()
    throw error
  }
}

function greet(peer: Peer, attached: AttachedServer, token: string): { session: Session; fd: number } | undefined {
  const { uid, pid } = peer.credentials
  const own = process.geteuid?.() ?? 0
  if (uid !== own) {
    throw new TsunagiError(
      'ERR_TSUNAGI_PEER',
      `${attached.key} is held by process ${pid} of uid ${uid}; this process runs as uid ${own} and takes nothing from it. Start the new version as the same user.`,
      {
        phase: 'negotiate',
      },
    )
  }
  const address = attached.key
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
  const answer = peer.channel.receive(LOOKUP_TIMEOUT)
  if (answer === undefined) throw silent(address, pid)
  const { message, fds } = answer
  if (message.type === 'welcome' && fds.length === 1) {
    const session = new Session(peer, message.pid, message.generation)
    session.claimed.set(address, attached)
    return { session, fd: fds[0] as number }
  }
  peer.channel.closeFds(fds)
  if (message.type !== 'refused')
    throw new TsunagiError('ERR_TSUNAGI_PROTOCOL', `Process ${pid}, which holds ${address}, answered with "${message.type}".`, {
      phase: 'negotiate',
    })
  peer.channel.close()
  peer.closePidfd()
  if (message.code === 'RELATED') return undefined
  throw refusedError(message.code, message.reason, address)
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
const LOOKUP_TIMEOUT = 2_000
