import { type Server, Socket } from 'node:net'
import type { AttachedServer } from '../attached-server.js'
import { accountOf } from '../handover/account.js'
import type { Installation } from '../installation.js'
import { installWitnesses, setWitness } from '../native/net-internals/surviving.js'
import { fdOf, isPlainTcp, serverFdOf } from '../native/net-internals.js'
import { flagsOf } from '../predecessor/snapshot.js'
import { VERSION } from '../version.js'
import { boundaryOf, IdleParsers, wordOf } from './boundary.js'
import { Escrow, type Offer } from './escrow.js'
import { Guarded } from './guarded.js'
import { Ledger, NOTHING, PLACES, ROW_BYTES } from './ledger.js'

/** One keeper, its ledger, and what is noted for them. */
export class Guard {
  readonly #installation: Installation
  readonly #servers: ReadonlySet<AttachedServer>
  readonly #ledger: Ledger
  readonly #escrow: Escrow
  /** Servers by their number in rows, which one that has closed keeps. */
  readonly #numbers: AttachedServer[] = []
  readonly #guarded = new Map<Socket, Guarded>()
  readonly #undo: (() => void)[]
  #free: number[] = []
  #places = 0
  #noted: Guarded[] = []
  #arrived: Guarded[] = []
  #offers = false
  /** How long nobody is looked at, since a look has to list many idle parsers, ms. */
  #restMs = 0

  constructor(installation: Installation, servers: ReadonlySet<AttachedServer>, onGone: (reason: Error) => void) {
    this.#installation = installation
    this.#servers = servers
    this.#ledger = new Ledger(installation.env.native)
    try {
      this.#escrow = new Escrow(installation.env, this.#offer(), onGone)
    } catch (error) {
      installation.env.native.closeFds(Int32Array.of(this.#ledger.fd))
      throw error
    }
    installation.carried.onCarry = (scope) => {
      if (scope instanceof Socket) return this.#guarded.get(scope)?.note()
      for (const guarded of this.#guarded.values()) if (guarded.attached.server === scope) guarded.note()
    }
    installation.holds.onChange = (socket) => this.#guarded.get(socket)?.isTold()
    this.#undo = [
      installWitnesses((server) => this.#serverCloses(server)),
      () => {
        installation.holds.onChange = undefined
        installation.carried.onCarry = undefined
      },
    ]
    for (const [attached, sockets] of installation.finder.find(servers)) for (const socket of sockets) this.take(attached, socket)
  }

  /** Nothing is noted any more. */
  close(): void {
    for (const undo of this.#undo.splice(0)) undo()
    for (const socket of this.#guarded.keys()) setWitness(socket, undefined)
    this.#guarded.clear()
    this.#installation.env.native.closeFds(Int32Array.of(this.#ledger.fd))
  }

  goodbye(): void {
    this.#escrow.goodbye()
  }

  /** A connection has come. Its copy goes to the keeper, and its row begins, when the handlers have run. */
  take(attached: AttachedServer, socket: Socket): void {
    const fd = fdOf(socket)
    const isAsked = attached.asked || attached.kind === 'http' || this.#installation.moveRule.asksFor('raw') !== undefined
    if (fd < 0 || !isAsked || !isPlainTcp(socket) || this.#guarded.has(socket)) return
    const place = this.#free.pop() ?? (this.#places < PLACES ? this.#places++ : undefined)
    if (place === undefined) return
    const guarded = new Guarded(this, attached, socket, place, fd)
    this.#guarded.set(socket, guarded)
    setWitness(socket, guarded)
    this.#ledger.clear(place)
    this.#arrived.push(guarded)
    this.#escrow.put(place, fd)
    guarded.note()
  }

  note(guarded: Guarded): void {
    if (this.#noted.push(guarded) > 1) return
    if (this.#restMs === 0) setImmediate(() => this.#lookAtNoted())
    else setTimeout(() => this.#lookAtNoted(), this.#restMs)
  }

  /** Its descriptor is about to be closed: whoever else has one must not keep it open. */
  dismiss({ socket, place, fd }: Guarded, byReset: boolean): void {
    if (!this.#guarded.delete(socket)) return
    setWitness(socket, undefined)
    this.#ledger.clear(place)
    this.#escrow.drop(place)
    this.#free.push(place)
    const { native } = this.#installation.env
    if (byReset) native.resetConnections(Int32Array.of(fd))
    else native.shutDownSockets(Int32Array.of(fd))
  }

  /** Servers have come or gone. */
  offerSoon(): void {
    if (this.#offers) return
    this.#offers = true
    setImmediate(() => {
      this.#offers = false
      if (this.#undo.length > 0) this.#escrow.offer(this.#offer())
    })
  }

  #offer(): Offer {
    for (const attached of this.#servers) if (attached.key !== '' && !this.#numbers.includes(attached)) this.#numbers.push(attached)
    const listening = [...this.#servers].filter(({ key, server, path }) => key !== '' && path === '' && serverFdOf(server) >= 0)
    return {
      bequest: {
        type: 'bequest',
        pid: process.pid,
        generation: this.#installation.generation,
        version: VERSION,
        node: process.version,
        leftAt: Date.now(),
        connections: 0,
        listeners: listening.map(({ key, path, backlog }) => ({ key, path, backlog })),
        shared: [],
        slot: '',
        datagrams: [],
        ledger: { rowBytes: ROW_BYTES, servers: this.#numbers.map(({ key }) => key) },
      },
      fds: [...listening.map(({ server }) => serverFdOf(server)), this.#ledger.fd],
    }
  }

  /** Else the keeper's copy would go on taking connections into its backlog. */
  #serverCloses(server: Server): void {
    const attached = this.#installation.attachedTo(server)
    const fd = serverFdOf(server)
    if (attached === undefined || !this.#servers.has(attached) || fd < 0) return
    this.#installation.env.native.shutDownSockets(Int32Array.of(fd))
    this.offerSoon()
  }

  #lookAtNoted(): void {
    if (this.#undo.length === 0) return
    this.#openRows()
    const noted = this.#noted
    this.#noted = []
    const waiting: Guarded[] = []
    const idle = new IdleParsers()
    for (const guarded of noted) {
      guarded.isNoted = false
      if (this.#guarded.get(guarded.socket) !== guarded) continue
      if (this.#look(guarded, idle) === NOTHING && guarded.socket.writableLength > 0) waiting.push(guarded)
    }
    this.#restMs = idle.size < MANY_IDLE ? 0 : idle.size / IDLE_A_MS
    // The kernel has not taken all that was written: nothing says when it has.
    if (waiting.length > 0) setTimeout(noteAll, AGAIN_MS, waiting).unref()
  }

  #openRows(): void {
    const arrived = this.#arrived.filter((guarded) => this.#guarded.get(guarded.socket) === guarded)
    this.#arrived = []
    if (arrived.length === 0) return
    const identities = this.#installation.env.native.identities(Int32Array.from(arrived, ({ fd }) => fd))
    for (const [i, { place }] of arrived.entries()) this.#ledger.open(place, identities[i] as number)
  }

  #look({ attached, socket, place, isAnswered }: Guarded, idle: IdleParsers): number {
    const number = this.#numbers.indexOf(attached)
    const boundary = number < 0 ? NOTHING : boundaryOf(this.#installation, attached, socket, isAnswered, idle)
    if (boundary === NOTHING) this.#ledger.blot(place)
    else this.#ledger.write(place, accountOf(socket), wordOf(boundary, flagsOf(socket), number))
    return boundary
  }
}

function noteAll(connections: readonly Guarded[]): void {
  for (const guarded of connections) guarded.note()
}

/** How soon it is looked again whether the kernel has taken what was written, ms. */
const AGAIN_MS = 20
/** So many idle HTTP connections are listed in a fraction of a millisecond; with more, it is looked less often, so that this stays a few percent of the time. */
const MANY_IDLE = 1_000
const IDLE_A_MS = 100
