/**
 * The private fields of engine.io and socket.io that are looked at, typed once, and where their classes are found: in Node's table of loaded modules.
 * Nothing is read from disk, and an application that has none of them costs one look at that table.
 *
 * @note read in engine.io 6.6 (build/server.js, build/socket.js, build/transports/*.js) and socket.io 4.8 (dist/client.js, dist/namespace.js, dist/socket.js).
 */
import type { EventEmitter } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { createRequire } from 'node:module'
import type { WebSocketInternals } from '../websocket/ws.js'

export interface Engine extends EventEmitter {
  readonly clients: Record<string, EngineSocket>
  generateId(request: IncomingMessage): string | PromiseLike<string>
  handshake(transport: string, request: IncomingMessage, closeConnection: unknown): Promise<unknown>
}

/** One session: it may change its transport. */
export interface EngineSocket extends EventEmitter {
  readonly id: string
  readonly protocol: number
  readyState: string
  readonly upgrading: boolean
  readonly transport: { readonly name: string; readonly socket?: WebSocketInternals }
  writeBuffer: Packet[]
  pingIntervalTimer: NodeJS.Timeout | null
  pingTimeoutTimer: NodeJS.Timeout | null
  hasRefreshedPingTimeout: boolean
  sendPacket(type: string, data?: unknown, options?: object): void
  schedulePing(): void
  resetPingTimeout(): void
}

export interface Packet {
  readonly type: string
  readonly data?: string | Uint8Array
}

/** The namespaces of one session. */
export interface Client {
  readonly conn: EngineSocket
  readonly nsps: Map<string, NamespaceSocket>
  readonly decoder: { reconstructor?: unknown }
  connect(namespace: string, auth: object): void
  setup(): void
  writeToEngine(packets: unknown, options: unknown): void
}

export interface Namespace {
  readonly name: string
  _ids: number
  _createSocket(client: Client, auth: object): Promise<NamespaceSocket>
  _doConnect(socket: NamespaceSocket, done: unknown): void
}

export interface NamespaceSocket extends EventEmitter {
  readonly id: string
  readonly pid: string | undefined
  readonly nsp: Namespace
  readonly client: Client
  readonly conn: EngineSocket
  readonly rooms: Set<string>
  readonly handshake: { readonly auth: object }
  readonly acks: Map<number, unknown>
  data: object
  recovered: boolean
}

interface Session {
  sid: string
  pid: string | undefined
  rooms: string[]
  data: unknown
  missedPackets: never[]
}

type NamespaceSocketClass = new (namespace: Namespace, client: Client, auth: object, session: Session) => NamespaceSocket

/** Every copy of engine.io in this process. */
export function loadedEngines(): Engine[] {
  return loaded(/[\\/]engine\.io[\\/]build[\\/]server\.js$/).map(({ BaseServer }) => prototypeOf<Engine>(BaseServer))
}

export interface SocketIo {
  readonly client: Client
  readonly namespace: Namespace
  readonly Socket: NamespaceSocketClass
}

/** Every copy of socket.io: prototypes of its classes. */
export function loadedSocketIo(): SocketIo[] {
  const folder = '[\\\\/]socket\\.io[\\\\/]dist[\\\\/]'
  const clients = loaded(new RegExp(`${folder}client\\.js$`))
  const namespaces = loaded(new RegExp(`${folder}namespace\\.js$`))
  const sockets = loaded(new RegExp(`${folder}socket\\.js$`))
  return clients.flatMap(({ Client }, i) => {
    const [namespace, socket] = [namespaces[i]?.['Namespace'], sockets[i]?.['Socket']]
    if (namespace === undefined || socket === undefined) return []
    return [{ client: prototypeOf<Client>(Client), namespace: prototypeOf<Namespace>(namespace), Socket: socket as NamespaceSocketClass }]
  })
}

function loaded(path: RegExp): Record<string, unknown>[] {
  const { cache } = createRequire(process.execPath)
  const names = Object.keys(cache).filter((name) => path.test(name))
  return names.sort().map((name) => cache[name]?.exports as Record<string, unknown>)
}

function prototypeOf<T>(made: unknown): T {
  return (made as { prototype: T }).prototype
}
