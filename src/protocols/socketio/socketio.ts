import type { IncomingMessage } from 'node:http'
import type { Env } from '../../env.js'
import type { Resumption } from '../../successor/resumption.js'
import { override } from '../override.js'
import type { Obstacle } from '../protocol.js'
import type { RequestHead } from '../request-head.js'
import type { Beginning, Dialect } from '../websocket/dialect.js'
import { acknowledge } from '../websocket/sender.js'
import { socketUnder, type WebSocketInternals } from '../websocket/ws.js'
import {
  type Client,
  type Engine,
  type EngineSocket,
  loadedEngines,
  loadedSocketIo,
  type Namespace,
  type NamespaceSocket,
  type SocketIo,
} from './library.js'
import { decodeData, encodeData, isState, type NamespaceState, pingIn, type SocketIoState, stateOf } from './state.js'
import { Together } from './together.js'

/**
 * Sessions of engine.io and the namespaces, rooms and data of socket.io above them. In the successor the client's handshake is made once more under the
 * session's id, and each namespace is connected with what it knew, as after a recovered connection: middlewares and 'connection' handlers run with
 * `socket.recovered` true. Nothing of that reaches the client. What cannot go along is who waits for an acknowledgement: it is counted and said.
 */
export class SocketIoDialect implements Dialect {
  readonly name = 'socket.io'
  readonly #env: Pick<Env, 'log'>
  readonly #resumption: Resumption
  readonly #patched = new Set<object>()
  readonly #engines = new Set<Engine>()
  readonly #clients = new WeakMap<EngineSocket, Client>()
  /** Handshakes that are made once more. */
  readonly #arriving = new WeakMap<IncomingMessage, Arriving>()
  readonly #restoring = new WeakMap<Client, Restoring>()
  readonly #together = new Together()
  #sessions: ReadonlyMap<WebSocketInternals, EngineSocket> | undefined

  constructor(env: Pick<Env, 'log'>, resumption: Resumption) {
    this.#env = env
    this.#resumption = resumption
  }

  prepare(): void {
    for (const engine of loadedEngines()) if (this.#isNew(engine)) this.#learnEngine(engine)
    for (const io of loadedSocketIo()) if (this.#isNew(io.client)) this.#learnSocketIo(io)
  }

  // ---- in the predecessor

  speaks(_ws: WebSocketInternals, { url }: RequestHead): boolean {
    return /[?&]EIO=\d/.test(url)
  }

  obstacleOf(ws: WebSocketInternals): Obstacle | undefined {
    const session = this.#sessionOf(ws)
    if (session === undefined) return { reason: 'its engine.io session was not found', passes: false }
    if (session.protocol !== 4) return { reason: 'it speaks an old protocol of engine.io', passes: false }
    const client = this.#clients.get(session)
    if (session.upgrading || session.transport.socket !== ws) return { reason: 'its transport is being upgraded', passes: true }
    if (client?.decoder.reconstructor) return { reason: 'a message is half received', passes: true }
    const refused = [...(client?.nsps.values() ?? [])].flatMap(({ data }) => encodeData(data).refused)
    return refused[0] && { reason: `socket.data cannot be carried: ${refused[0].error.message}`, passes: false }
  }

  snapshot(ws: WebSocketInternals): SocketIoState {
    const session = this.#sessionOf(ws) as EngineSocket
    return stateOf(session, [...(this.#clients.get(session)?.nsps.values() ?? [])])
  }

  leave(ws: WebSocketInternals): { takeBack(): void; letGo(): void } {
    const session = this.#sessionOf(ws) as EngineSocket
    const { writeBuffer } = session
    clearTimeout(session.pingIntervalTimer ?? undefined)
    clearTimeout(session.pingTimeoutTimer ?? undefined)
    session.writeBuffer = [] // it went along
    const acks = [...(this.#clients.get(session)?.nsps.values() ?? [])].reduce((sum, { acks }) => sum + acks.size, 0)
    return {
      takeBack() {
        session.writeBuffer = [...writeBuffer, ...session.writeBuffer]
        session.schedulePing()
      },
      letGo: () => {
        if (acks > 0) this.#env.log(`socket.io: ${acks} acknowledgements that client ${session.id} owes will not reach who waits for them`)
      },
    }
  }

  /** Asking each of thousands by itself would look through all of them each time; within one synchronous block none of them changes. */
  #sessionOf(ws: WebSocketInternals): EngineSocket | undefined {
    if (this.#sessions === undefined) {
      const sessions = [...this.#engines].flatMap(({ clients }) => Object.values(clients))
      this.#sessions = new Map(sessions.map((session) => [session.transport.socket as WebSocketInternals, session]))
      queueMicrotask(() => {
        this.#sessions = undefined
      })
    }
    return this.#sessions.get(ws)
  }

  // ---- in the successor

  refuse(state: unknown): string | undefined {
    return isState(state) ? undefined : 'its socket.io session is malformed'
  }

  /** The request of a session that began with polling names the session: here it begins with this one. */
  begin(state: unknown, request: RequestHead): Beginning {
    const arriving: Arriving = { state: state as SocketIoState, settled: deferred(), unmute: () => {} }
    return {
      request: { ...request, url: request.url.replace(/([?&])sid=[^&]*&?/, '$1') },
      received: (message) => void this.#arriving.set(message, arriving),
      meet: (ws) => {
        // Nothing of the second handshake is for the client.
        const discard = (...args: unknown[]) => acknowledge(args)
        arriving.unmute = override(ws._sender, { send: discard, sendFrame: discard })
        ws.once('close', () => arriving.settled.resolve())
        return this.#together.wait(arriving.settled.promise)
      },
    }
  }

  #learnEngine(prototype: Engine): void {
    const dialect = this
    const { handshake } = prototype
    override(prototype, {
      async handshake(this: Engine, transport: string, request: IncomingMessage, closeConnection: unknown) {
        dialect.#engines.add(this)
        const arriving = dialect.#arriving.get(request)
        if (arriving === undefined) return Reflect.apply(handshake, this, [transport, request, closeConnection])
        const unname = override(this, { generateId: () => arriving.state.sid })
        const made = Reflect.apply(handshake, this, [transport, request, closeConnection])
        unname() // it has asked, at once
        await made
        const session = this.clients[arriving.state.sid]
        if (session) dialect.#restore(session, arriving)
        else arriving.settled.resolve() // refused, which it has said
        return made
      },
    } as never)
  }

  #learnSocketIo({ client, namespace, Socket }: SocketIo): void {
    const dialect = this
    const { setup } = client
    override(client, {
      setup(this: Client) {
        dialect.#clients.set(this.conn, this)
        Reflect.apply(setup, this, [])
      },
    })
    const { _createSocket, _doConnect } = namespace
    override(namespace, {
      async _createSocket(this: Namespace, owner: Client, auth: object) {
        const known = dialect.#restoring.get(owner)?.left.get(this.name)
        if (known === undefined) return Reflect.apply(_createSocket, this, [owner, auth])
        const session = { sid: known.id, pid: known.pid ?? undefined, rooms: known.rooms, data: decodeData(known.data), missedPackets: [] }
        return new Socket(this, owner, auth, session)
      },
      _doConnect(this: Namespace, socket: NamespaceSocket, done: unknown) {
        const connect = () => Reflect.apply(_doConnect, this, [socket, done])
        const restoring = dialect.#restoring.get(socket.client)
        if (!restoring?.left.has(this.name)) return connect()
        dialect.#connect(socket, client, connect)
        restoring.arrived(this.name)
      },
    } as never)
  }

  /** The client's session is there, and nobody has been told. */
  #restore(session: EngineSocket, { state, settled, unmute }: Arriving): void {
    unmute()
    if (state.ping === null) session.resetPingTimeout()
    else pingIn(session, state.ping)
    for (const { type, data } of state.packets) session.sendPacket(type, data)
    const client = this.#clients.get(session)
    if (client === undefined || state.namespaces.length === 0) return settled.resolve()
    const left = new Map(state.namespaces.map((namespace) => [namespace.name, namespace]))
    const arrived = (name: string) => {
      left.delete(name)
      if (left.size === 0) settled.resolve()
    }
    setTimeout(settled.resolve, LONGEST_MS).unref() // a middleware has not let it through
    this.#restoring.set(client, { left, arrived })
    for (const { name, auth } of state.namespaces) client.connect(name, auth)
  }

  /** Runs the application's 'connection' handlers. While they are at work nothing that socket.io sends is meant, unless they have looked at `recovered`. */
  #connect(socket: NamespaceSocket, prototype: Client, connect: () => void): void {
    const known = this.#restoring.get(socket.client)?.left.get(socket.nsp.name)
    socket.nsp._ids = Math.max(socket.nsp._ids, known?.ids ?? 0) // a client may still acknowledge what the predecessor has sent
    const unmute = override(prototype, { writeToEngine() {} })
    const connection = socketUnder(socket.conn.transport.socket)
    const ask = () => {
      unmute()
      if (connection) this.#resumption.ask(connection)
    }
    if (connection) this.#resumption.onAsk(connection, unmute)
    // It says CONNECT to the client before anybody can ask.
    Object.defineProperty(socket, 'recovered', {
      get() {
        ask()
        return true
      },
      configurable: true,
      enumerable: true,
    })
    try {
      connect()
    } finally {
      unmute()
    }
  }

  #isNew(prototype: object): boolean {
    if (this.#patched.has(prototype)) return false
    this.#patched.add(prototype)
    return true
  }
}

interface Arriving {
  readonly state: SocketIoState
  readonly settled: { promise: Promise<void>; resolve(): void }
  unmute: () => void
}

interface Restoring {
  readonly left: Map<string, NamespaceState>
  arrived(name: string): void
}

function deferred(): Arriving['settled'] {
  let resolve!: () => void
  const promise = new Promise<void>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}

/** Longest that a client waits for middlewares of the new version before it is read from, ms. */
const LONGEST_MS = 5_000
