import type { Socket } from 'node:net'
import type { AttachedServer } from '../../attached-server.js'
import type { Env } from '../../env.js'
import type { Resumption } from '../../successor/resumption.js'
import { GraphqlWsDialect } from '../dialects/graphql-ws.js'
import { YWebSocketDialect } from '../dialects/y-websocket.js'
import { mqttDialect } from '../mqtt/mqtt-dialect.js'
import { obstacleOfSocket } from '../plain-tcp.js'
import {
  type Arrival,
  DISCARD,
  type LateAct,
  type LateSink,
  type Left,
  type Obstacle,
  type Protocol,
  type ProtocolSnapshot,
} from '../protocol.js'
import { SocketIoDialect } from '../socketio/socketio.js'
import { Adoptions } from './adopt.js'
import { Corral } from './corral.js'
import type { Dialect } from './dialect.js'
import { inflatedOf } from './inflating.js'
import { obstacleOfWebSocket } from './quiescence.js'
import { receivedPart } from './received-part.js'
import { type Act, divert, perform } from './sender.js'
import { readState, type WebSocketState } from './state.js'
import { upgradeOf } from './upgrades.js'
import { closeTimeLeft, deflateOf, expectClose, READY_STATE, stopCloseTimer, type WebSocketInternals, webSocketOn } from './ws.js'

/**
 * A WebSocket of any copy of `ws`. The successor's application is told of it by the request that it began with: it authenticates, routes and greets as it
 * always does, what it answers is discarded, and its new WebSocket goes on in the middle of whatever the old one was in. Its one rule: what zlib has
 * in hand cannot be told, so it moves between two things.
 */
export class WebSocketProtocol implements Protocol {
  readonly name = 'websocket'
  readonly kind = 'ws'
  readonly #adoptions: Adoptions
  readonly #dialects: readonly Dialect[]
  readonly #corrals = new WeakMap<Socket, Corral>()

  constructor(env: Pick<Env, 'log'>, resumption: Resumption) {
    this.#dialects = [new SocketIoDialect(env, resumption), new GraphqlWsDialect(), mqttDialect, new YWebSocketDialect(resumption)]
    this.#adoptions = new Adoptions(env, resumption)
  }

  prepare(): void {
    for (const dialect of this.#dialects) dialect.prepare?.()
  }

  /** Its library listens to the end of the socket: where nobody does, thousands of sockets need not be searched while the server stands still. */
  knows(socket: Socket): boolean {
    return socket.listenerCount('close') > 0 && webSocketOn(socket) !== undefined
  }

  obstacleOf(socket: Socket): Obstacle | undefined {
    const obstacle = obstacleOfSocket(socket)
    if (obstacle) return obstacle
    if (upgradeOf(socket) === undefined) return { reason: 'its request to upgrade was not seen', passes: false }
    const ws = webSocketOn(socket)
    if (ws === undefined) return { reason: 'its WebSocket has closed', passes: false }
    return obstacleOfWebSocket(ws) ?? this.#dialectOf(ws)?.obstacleOf(ws)
  }

  #dialectOf(ws: WebSocketInternals): Dialect | undefined {
    const request = upgradeOf(ws._socket as Socket)
    return request && this.#dialects.find((dialect) => dialect.speaks(ws, request))
  }

  /** Its end leaves the corral as it is: it opens when the connection drains or comes back, or after a moment by itself. */
  watch(socket: Socket, onPassed: () => void): () => void {
    this.#corrals.get(socket)?.open()
    const ws = webSocketOn(socket)
    if (ws === undefined) return () => {}
    let isWatched = true
    this.#corrals.set(
      socket,
      new Corral(
        ws,
        socket,
        () => this.#dialectOf(ws)?.obstacleOf(ws),
        () => isWatched && onPassed(),
      ),
    )
    return () => {
      isWatched = false
    }
  }

  /** The client may connect again at once, and finds the successor. */
  drain(socket: Socket): void {
    this.#corrals.get(socket)?.open()
    webSocketOn(socket)?.close(SERVICE_RESTART)
  }

  snapshot(socket: Socket): ProtocolSnapshot {
    const ws = webSocketOn(socket) as WebSocketInternals
    const deflate = deflateOf(ws)
    const inflated = deflate && inflatedOf(deflate)
    const dialect = this.#dialectOf(ws)
    const acts = this.#corrals.get(socket)?.acts ?? []
    const isClosing = ws.readyState === READY_STATE.closing && !acts.some(({ act }) => act === 'close' || act === 'terminate')
    const state: WebSocketState = {
      request: upgradeOf(socket) as WebSocketState['request'],
      subprotocol: ws.protocol,
      deflate: deflate ? { params: { ...deflate.params }, window: inflated?.window ?? NOTHING } : null,
      closing: isClosing ? { left: closeTimeLeft(ws) } : null,
      dialect: dialect ? { name: dialect.name, state: dialect.snapshot(ws) } : null,
      acts,
    }
    return { state, held: receivedPart(ws._receiver, inflated?.fragments) }
  }

  leave(socket: Socket, late: LateSink): Left {
    const ws = webSocketOn(socket) as WebSocketInternals
    const closing = ws.readyState === READY_STATE.closing ? closeTimeLeft(ws) : undefined
    stopCloseTimer(ws)
    const corral = this.#corrals.get(socket)
    corral?.leave()
    const left = this.#dialectOf(ws)?.leave(ws)
    const passOn = (act: Act) => {
      if (act.act === 'terminate') return // that is done to a peer that does not answer, and it answers there
      const { data, ...detail } = act
      late.late('write', data, detail)
    }
    const undivert = divert(ws, passOn, true)
    return {
      socketSink: DISCARD, // only `ws` writes there, and it is diverted before
      takeBack() {
        undivert()
        if (closing !== undefined) expectClose(ws, closing)
        left?.takeBack()
        corral?.open()
      },
      letGo() {
        left?.letGo()
      },
    }
  }

  refuse(state: unknown, attached: AttachedServer | undefined): string | undefined {
    const { dialect } = readState(state) ?? {}
    if (dialect === undefined) return 'its state is not that of a WebSocket'
    if (dialect && this.#named(dialect.name) === undefined) return `it speaks ${dialect.name}, which this version does not know`
    const flaw = dialect && this.#named(dialect.name)?.refuse(dialect.state)
    if (flaw) return flaw
    return attached?.server.listenerCount('upgrade') ? undefined : 'its server does not upgrade connections here'
  }

  adopt(arrival: Arrival, state: unknown): void {
    const read = readState(state) as WebSocketState
    this.#adoptions.begin(arrival, read, read.dialect ? this.#named(read.dialect.name) : undefined)
  }

  late(socket: Socket, { data, detail }: LateAct): void {
    const act = { ...(detail as object), data } as Act
    if (this.#adoptions.whenAdopted(socket, (ws) => perform(ws, act))) return
    const ws = webSocketOn(socket)
    if (ws) perform(ws, act)
  }

  #named(name: string): Dialect | undefined {
    return this.#dialects.find((dialect) => dialect.name === name)
  }
}

/** @note The registry of RFC 6455: "Service Restart"; clients may connect again. */
const SERVICE_RESTART = 1012
const NOTHING = new Uint8Array()
