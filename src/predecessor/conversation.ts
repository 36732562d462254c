import type { Received } from '../channel/codec.js'
import type { Canary, Message, MessageOf } from '../channel/messages.js'
import type { Peer } from '../channel/peer.js'
import { TsunagiError } from '../errors.js'
import type { Installation } from '../installation.js'
import { serverInPlace } from '../name.js'
import { serverFdOf } from '../native/net-internals.js'
import { come } from '../successor/come.js'
import { VERSION } from '../version.js'
import { Ahead } from './ahead.js'
import { answer } from './answer.js'
import { freeze, type Scope } from './freeze.js'
import { type HandedOver, handOver } from './hand-over.js'
import { agreedProtocol, type Refusal, refusalOfHello, refusalOfStates, type WhyUnmigratable, whyUnmigratable } from './negotiate.js'
import { quiesce } from './quiesce.js'
import { rehearse } from './rehearse.js'
import { Settlement } from './settle.js'

/** One successor, from its hello to the end of this process. At most one of a process is past `welcome` at any time. */
export class Conversation {
  readonly #installation: Installation
  readonly #peer: Peer
  readonly #settlement: Settlement
  #claimed = new Set<string>()
  #whyUnmigratable: WhyUnmigratable = () => undefined
  #welcomed = false
  /** What whoever has started this successor wishes. */
  #canary: Canary | undefined
  #attempts = 0
  /** What the next `go` starts; there until its block begins, since the successor waits for nothing else meanwhile. */
  #scope: Scope | undefined
  #ahead: Ahead | undefined

  constructor(installation: Installation, peer: Peer) {
    this.#installation = installation
    this.#peer = peer
    this.#settlement = new Settlement(installation, peer, () => this.#continue())
    this.#listen()
  }

  get pid(): number {
    return this.#peer.credentials.pid
  }

  get hasCommitted(): boolean {
    return this.#settlement.hasCommitted
  }

  /** Before its commit: whoever has started the successor does not want to wait for it any longer. */
  giveUp(reason: Error): void {
    this.#peer.channel.close(reason)
  }

  #listen(): void {
    this.#peer.channel.listen({
      onMessage: (received) => this.#channelOnMessage(received),
      onClose: (reason) => this.#end(reason),
    })
  }

  #channelOnMessage({ message, fds }: Received): void {
    this.#peer.channel.closeFds(fds) // a successor has no descriptor to give
    switch (message.type) {
      case 'hello':
        return this.#welcome(message)
      case 'claim':
        return this.#offer(message.address)
      case 'ready':
        return this.#prepareFirst(message)
      case 'landed':
        return this.#ahead?.landed()
      case 'go':
        return this.#go()
      case 'started':
        return this.#settlement.started(message.connections)
      case 'resumed':
        return this.#settlement.resumed()
      case 'inquiry':
      case 'reload':
      case 'save':
        return answer(this.#installation, this.#peer, message)
      case 'well':
        return this.#settlement.well()
      case 'gone':
        return this.#settlement.gone(message.connections)
      case 'come':
        if (this.#settlement.isLending) return this.#settlement.fetchBack(message)
        return come(this.#installation, this.#peer, message)
      case 'nack':
        return this.#refusedBySuccessor(message)
      case 'ack':
        return // it crossed our abort
      default:
        throw new TsunagiError('ERR_TSUNAGI_PROTOCOL', `The successor sent "${message.type}", which is not for a predecessor.`, {
          phase: 'negotiate',
        })
    }
  }

  #welcome(hello: MessageOf<'hello'>): void {
    if (this.#peer.credentials.uid === process.geteuid?.()) this.#installation.leftovers?.giveUp(hello.address)
    const offered = this.#offerAt(hello.address)
    const refusal = refusalOfHello(this.#installation, this.#peer.credentials, hello, offered !== undefined)
    if (refusal) return this.#refuse(refusal)
    this.#welcomed = true
    this.#canary = this.#installation.desk.canaryFor(hello.token)
    this.#installation.desk.serve(this)
    this.#claimed.add(hello.address)
    const { generation } = this.#installation
    const welcome = { type: 'welcome', protocol: agreedProtocol(hello), pid: process.pid, version: VERSION, node: process.version } as const
    try {
      this.#peer.channel.send({ ...welcome, generation }, { fds: offered ?? [] })
    } catch (error) {
      this.#refuse({ code: 'ERR_TSUNAGI_REFUSED', reason: `its listener could not be sent: ${(error as Error).message}` })
    }
  }

  #refuse(refusal: Refusal): void {
    this.#send({ type: 'refused', ...refusal })
    this.#peer.channel.close()
  }

  #offer(address: string): void {
    const lent = this.#welcomed ? this.#installation.lent?.serverAt(address) : undefined
    if (lent) {
      this.#claimed.add(lent.key)
      return this.#send({ type: 'listener', address: lent.key, found: true })
    }
    const named = this.#welcomed ? serverInPlace(this.#installation.name, this.#installation.servers, address) : undefined
    if (named) {
      this.#claimed.add(named.key)
      return this.#send({ type: 'listener', address: named.key, found: true }, this.#offerAt(named.key))
    }
    const isShared = this.#installation.serverAt(address)?.isShared === true
    const fds = !this.#welcomed ? undefined : isShared ? [] : this.#offerAt(address)
    if (fds) this.#claimed.add(address)
    this.#send({ type: 'listener', address, found: fds !== undefined }, fds)
  }

  /** What somebody who asks for this address gets: a listener or a UDP socket, or for a name or the slot of a cluster worker nothing but a welcome. */
  #offerAt(address: string): number[] | undefined {
    const { place, name, datagrams, lent } = this.#installation
    if (address === place || address === name || address === lent?.key) return []
    const attached = this.#installation.serverAt(address)
    const fd = !attached ? datagrams.fdAt(address) : attached.isShared ? -1 : serverFdOf(attached.server)
    return fd < 0 ? undefined : [fd]
  }

  #prepareFirst(ready: MessageOf<'ready'>): void {
    if (!this.#welcomed)
      throw new TsunagiError('ERR_TSUNAGI_PROTOCOL', 'The successor sent "ready" before "hello".', { phase: 'negotiate' })
    this.#claimed = new Set(ready.claimed.filter((key) => this.#claimed.has(key)))
    const canary = this.#settlement.isLending ? undefined : wishedFor(this.#canary ?? ready.canary)
    const refusal = refusalOfStates(this.#installation, ready, canary !== undefined)
    // One that has a canary gives it back.
    if (refusal && this.#settlement.isLending) return this.#send({ type: 'abort', ...refusal, again: false })
    if (refusal) return this.#refuse(refusal)
    const selection = canary ? this.#settlement.canaryScope(this.#claimed, canary) : this.#settlement.firstScope(ready.mode)
    this.#whyUnmigratable = whyUnmigratable(ready.states)
    const scope = { ...selection, claimed: this.#claimed, whyUnmigratable: this.#whyUnmigratable }
    void rehearse(this.#installation, scope).then(() => {
      if (this.#peer.channel.closed) return
      if (ready.ahead && selection.limit === Number.POSITIVE_INFINITY) this.#sendAhead(scope)
      else this.#prepare(selection, canary?.watch)
    })
  }

  /** Where all move at once and they are many. */
  #sendAhead(scope: Scope): void {
    const { moving } = freeze(this.#installation, { ...scope, isRehearsal: true })
    if (moving.length < WORTH_SENDING_AHEAD) return this.#prepare(scope)
    const sockets = moving.map(({ socket }) => socket)
    const ahead = new Ahead(this.#installation, this.#peer.channel, sockets, () => this.#prepare({ ...scope, ahead }))
    this.#ahead = ahead
  }

  /** The next transaction, after one has been resumed. */
  #continue(): void {
    const next = this.#scope === undefined && !this.#peer.channel.closed ? this.#settlement.nextScope() : undefined
    if (next) this.#prepare(next)
  }

  #prepare(selection: Pick<Scope, 'only' | 'limit' | 'more' | 'ahead'>, watch?: number): void {
    const { finder, servers } = this.#installation
    this.#scope = { ...selection, claimed: this.#claimed, whyUnmigratable: this.#whyUnmigratable }
    const candidates = selection.only?.size ?? [...finder.find(servers).values()].reduce((sum, { length }) => sum + length, 0)
    this.#send({ type: 'prepare', connections: Math.min(candidates, selection.limit), bytes: 0, ...(watch !== undefined && { watch }) })
  }

  /** The successor sits in its receive loop. A fresh macrotask, so that no promise of the application is half way. */
  #go(): void {
    const scope = this.#scope
    if (scope === undefined && this.#settlement.retired) return this.#send(TOO_LATE)
    if (scope === undefined)
      throw new TsunagiError('ERR_TSUNAGI_PROTOCOL', 'The successor sent "go" without a "prepare".', { phase: 'arm' })
    this.#peer.channel.pause()
    if (scope.only) setImmediate(() => this.#handOver(scope, () => {}))
    else quiesce(this.#installation, (thaw) => this.#handOver(scope, thaw))
  }

  /** Instead of `go`: it has no room for them. In place of an `ack` it is read in the block; one that crossed our abort says the same of the same ones. */
  #refusedBySuccessor({ code, reason }: MessageOf<'nack'>): void {
    if (this.#scope === undefined || !this.#settlement.retired || code === 'ERR_TSUNAGI_ABORTED') return
    this.#scope = undefined
    this.#settlement.giveUpRest(new Error(`the successor refused them: ${reason} (${code})`))
  }

  #handOver(scope: Scope, thaw: () => void): void {
    this.#scope = undefined
    let handed: HandedOver
    try {
      const base = this.#settlement.moved
      handed = handOver(this.#installation, {
        channel: this.#peer.channel,
        scope,
        base,
        sinkFor: (index) => this.#settlement.sinkFor(base + index),
      })
    } catch (error) {
      // A fault of our own after the commit must not look like an abort: two owners would be the result.
      if (!(error instanceof TsunagiError && error.serving)) throw error
      thaw()
      return this.#abort(error)
    } finally {
      this.#ahead?.close()
      this.#ahead = undefined
    }
    thaw() // what stays here is read again
    this.#attempts = 0
    this.#settlement.committed(handed)
    this.#listen()
  }

  /**
   * Still before commit: says so, and listens again. A successor that was only slow may try again, a little later each time. The word goes out
   * before anything else happens here: a prepared successor that never hears it would wait, and take stale connections for its own at our death.
   */
  #abort(error: TsunagiError): void {
    const { channel } = this.#peer
    const isFirst = !this.#settlement.retired
    const again = ++this.#attempts < (isFirst ? MAX_ATTEMPTS : MAX_LATER_ATTEMPTS) && isTransient(error.cause)
    const code = (error.cause as { code?: string } | undefined)?.code ?? error.code
    try {
      if (!channel.closed) channel.send({ type: 'abort', code, reason: error.message, again }, { timeoutMs: ABORT_TIMEOUT })
      // A successor with a canary gives it back.
      if (!channel.closed && (again || !isFirst || this.#settlement.isLending)) this.#listen()
      else channel.close(error)
    } catch {
      channel.close(error) // it does not read any more, or has died; what it has is incomplete or was not acked
    }
    if (isFirst && channel.closed) this.#end(error)
    if (!isFirst && again && !channel.closed) this.#settlement.retry(Math.min(FIRST_RETRY_MS * 4 ** (this.#attempts - 1), LAST_RETRY_MS))
    else if (!isFirst) this.#settlement.giveUpRest(error)
    this.#installation.env.log(`${error.message}${again ? ' It will be tried again.' : ''}`)
    this.#installation.emitFailure(error)
  }

  #send(message: Message, fds: number[] = []): void {
    const { channel } = this.#peer
    try {
      channel.send(message, { fds })
    } catch (error) {
      channel.close(error as Error) // it gave up or died since it asked, which is no fault of ours
    }
  }

  #end(reason: Error): void {
    this.#ahead?.close()
    this.#settlement.channelOnClose()
    if (this.#settlement.hasCommitted) return // until its death is proven it stays the one successor
    this.#installation.desk.dismiss(this, reason)
    this.#peer.closePidfd()
  }
}

function wishedFor(canary: Canary | undefined): Canary | undefined {
  return canary && canary.connections > 0 ? canary : undefined
}

/** The answer to a `go` for what has been given up meanwhile. */
const TOO_LATE = { type: 'abort', code: 'ERR_TSUNAGI_ABORTED', reason: 'it was given up', again: false } as const
/** Fewer are sent and looked at in the block in no time, and may be looked at in repair mode before. */
const WORTH_SENDING_AHEAD = 1_000
const MAX_ATTEMPTS = 4
/** Once others serve, what is left costs nobody a try but itself: a machine that is busy for seconds is waited for. */
const MAX_LATER_ATTEMPTS = 10
/** The first transaction is asked for again by the successor, a later one comes from here. */
const FIRST_RETRY_MS = 50
const LAST_RETRY_MS = 1_000
/** A successor that does not take a few bytes within this many milliseconds is stopped, and the server has stood still for long enough. */
const ABORT_TIMEOUT = 100

/** Out of time, or of room: another try may do. Anything else will be the same next time. */
function isTransient(cause: unknown): boolean {
  const code = (cause as { code?: string } | undefined)?.code ?? ''
  return ['ERR_TSUNAGI_ABORTED', 'ETIMEDOUT', 'ETOOMANYREFS', 'ENOBUFS', 'ENOMEM'].includes(code)
}
