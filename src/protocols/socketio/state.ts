import { decodeGraph } from '../../carry/decode-graph.js'
import { encodeGraph } from '../../carry/encode-graph.js'
import { timeLeft } from '../../native/net-internals.js'
import type { EngineSocket, NamespaceSocket, Packet } from './library.js'

/** One session of engine.io, as plain data. */
export interface SocketIoState {
  readonly sid: string
  /** Milliseconds until the next ping; `null`: one was sent, and its answer has not come. */
  readonly ping: number | null
  /** What engine.io had not given to the WebSocket. */
  readonly packets: readonly Packet[]
  readonly namespaces: readonly NamespaceState[]
}

export interface NamespaceState {
  readonly name: string
  /** Number of the next acknowledgement that the namespace asks for. */
  readonly ids: number
  readonly id: string
  readonly pid: string | null
  readonly rooms: string[]
  readonly auth: object
  /** A carried graph. */
  readonly data: Uint8Array
}

export function stateOf(session: EngineSocket, namespaces: readonly NamespaceSocket[]): SocketIoState {
  return {
    sid: session.id,
    ping: session.pingTimeoutTimer || session.pingIntervalTimer === null ? null : timeLeft(session.pingIntervalTimer),
    packets: session.writeBuffer.map(({ type, data }) => ({ type, ...(data === undefined ? {} : { data }) })),
    namespaces: namespaces.map(({ nsp, id, pid, rooms, data, handshake }) => ({
      name: nsp.name,
      ids: nsp._ids,
      id,
      pid: pid ?? null,
      rooms: [...rooms],
      auth: handshake.auth,
      data: encodeData(data).bytes,
    })),
  }
}

/** In the place of socket.io's own timer, so that a handover before it has fired carries what is left of it; that one runs in full from then on. */
export function pingIn(session: EngineSocket, ms: number): void {
  clearTimeout(session.pingIntervalTimer ?? undefined)
  session.pingIntervalTimer = setTimeout(() => {
    if (session.readyState !== 'open') return
    session.schedulePing()
    session.hasRefreshedPingTimeout = false
    session.sendPacket('ping')
    session.resetPingTimeout()
  }, ms).unref()
}

/** `state` is as another process has sent it. */
export function isState(state: unknown): state is SocketIoState {
  const { sid, ping, packets, namespaces } = (state ?? {}) as Partial<SocketIoState>
  const isPing = ping === null || typeof ping === 'number'
  return typeof sid === 'string' && isPing && Array.isArray(packets) && Array.isArray(namespaces) && namespaces.every(isNamespaceState)
}

function isNamespaceState(state: unknown): boolean {
  const { name, ids, id, rooms, auth, data } = (state ?? {}) as Partial<NamespaceState>
  const isNamed = typeof name === 'string' && typeof id === 'string' && typeof ids === 'number'
  return isNamed && Array.isArray(rooms) && typeof auth === 'object' && auth !== null && data instanceof Uint8Array
}

export function encodeData(data: object): ReturnType<typeof encodeGraph> {
  return encodeGraph([{ key: 'data', version: 0, value: data }], {
    reference: () => undefined,
    maxBytes: MAX_DATA,
    name: () => 'socket.data',
  })
}

export function decodeData(bytes: Uint8Array): unknown {
  const graph = decodeGraph(bytes, { resolve: () => undefined, declared: () => undefined })
  graph.commit()
  return graph.roots.get('data')?.value
}

const MAX_DATA = 1024 * 1024
