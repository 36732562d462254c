import type { AttachedServer } from '../attached-server.js'
import type { Channel } from '../channel/channel.js'
import type { Received } from '../channel/codec.js'
import type { Message, MessageOf, MessageType } from '../channel/messages.js'
import type { Peer } from '../channel/peer.js'
import { TsunagiError } from '../errors.js'
import { awaitAnswer, LOOKUP_TIMEOUT, refusedError, silent } from './lookup.js'

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
  /** Copies of its listeners on addresses that ours do not listen on, by their keys. */
  readonly leftovers = new Map<string, number>()
  /** Keys of its UDP sockets that this process has a copy of. */
  readonly datagrams = new Set<string>()
  /** A connection has ended whose descriptor came ahead. */
  onEnded: (place: number) => void = () => {}
  readonly #failed: Promise<never>
  #fail!: (reason: Error) => void
  #waiting: ((received: Received) => void) | undefined
  readonly #inbox: Received[] = []
  /** What the application of the predecessor still does to connections that are here. */
  onLate: (late: Received) => void = () => {}

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

  /** Asks for the connections of a server whose listener stays where it is: with the cluster's primary, or here. Blocks, bounded. */
  claimShared(attached: AttachedServer): boolean {
    const { message, fds } = this.#claim(attached.key)
    this.channel.closeFds(fds)
    if (message.found) this.claimed.set(message.address, attached)
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
    this.claimed.delete(attached.key)
    if (message.found && !this.claimed.has(message.address)) {
      const [fd] = fds
      if (fd !== undefined) this.leftovers.set(message.address, fd)
      return void this.claimed.set(message.address, attached)
    }
    this.channel.closeFds(fds)
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
      const answer = awaitAnswer(this.channel, this.predecessor)
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

  #deliver(received: Received): void {
    const { message, fds } = received
    if (message.type !== 'ahead') this.channel.closeFds(fds)
    if (message.type === 'late') return this.onLate({ ...received, fds: [] })
    if (message.type === 'refused') this.#fail(refusedError(message.code, message.reason, [...this.claimed.keys()].join(', ')))
    else if (message.type === 'ended') this.onEnded(message.place)
    else if (this.#waiting) this.#waiting(received)
    else this.#inbox.push(received)
  }

  /** The next message, which has to be of one of these types; whoever asks for 'ahead' owns its descriptors. */
  async next<T extends MessageType>(...types: T[]): Promise<Received & { message: MessageOf<T> }> {
    const received =
      this.#inbox.shift() ??
      (await Promise.race([
        new Promise<Received>((resolve) => {
          this.#waiting = resolve
        }),
        this.#failed,
      ]))
    this.#waiting = undefined
    const { message, fds } = received
    if (types.includes(message.type as T)) return received as Received & { message: MessageOf<T> }
    if (message.type === 'ahead') this.channel.closeFds(fds)
    throw new TsunagiError('ERR_TSUNAGI_PROTOCOL', `The predecessor sent "${message.type}" where "${types.join('" or "')}" was due.`, {
      phase: 'arm',
    })
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
    this.channel.closeFds([...this.leftovers.values()])
    this.leftovers.clear()
    for (const { message, fds } of this.#inbox.splice(0)) if (message.type === 'ahead') this.channel.closeFds(fds)
    this.channel.close(reason)
    this.peer.closePidfd()
  }
}

/** Whether this is what a channel says when the other process has closed it, or has died. */
export function isEndOfChannel(error: unknown): boolean {
  return ['ERR_TSUNAGI_CHANNEL_CLOSED', 'EPIPE', 'ECONNRESET'].includes((error as { code?: string }).code ?? '')
}
