import type { Server, Socket } from 'node:net'
import type { AttachedServer } from '../attached-server.js'
import { accountOf } from '../handover/account.js'
import type { Installation } from '../installation.js'
import { bytesInFlight, type HttpParser, httpMessageOf, idleParsers, isThrottled, parserOf } from '../native/net-internals.js'
import { NOTHING } from './ledger.js'

/**
 * What a connection is at a boundary of, as one number: which protocol, the flags of its socket, and the server's place in the bequest. The numbers are
 * permanent: the process that reads them may be of another version.
 */
export const BOUNDARY = { raw: 1, http: 2, websocket: 3 } as const

export type Boundary = (typeof BOUNDARY)[keyof typeof BOUNDARY]

export function wordOf(boundary: Boundary, flags: number, server: number): number {
  return boundary | (flags << FLAGS_AT) | (server << SERVER_AT)
}

export function readWord(word: number): { boundary: number; flags: number; server: number } {
  return {
    boundary: word & ((1 << FLAGS_AT) - 1),
    flags: (word >> FLAGS_AT) & ((1 << (SERVER_AT - FLAGS_AT)) - 1),
    server: word >> SERVER_AT,
  }
}

/** Parsers that stand between two messages, at one moment. Node only has a list of all of a server's: to ask for each by itself would make one each time. */
export class IdleParsers {
  readonly #lists = new Map<Server, ReadonlySet<HttpParser>>()

  has(server: Server, parser: HttpParser): boolean {
    let list = this.#lists.get(server)
    if (list === undefined) {
      list = idleParsers(server)
      this.#lists.set(server, list)
    }
    return list.has(parser)
  }

  /** How many were listed. */
  get size(): number {
    let size = 0
    for (const list of this.#lists.values()) size += list.size
    return size
  }
}

/**
 * Of what a connection is at a boundary now; NOTHING: the process that comes next could not go on with it. Whether it `isAnswered` only the order of
 * reads and writes tells.
 */
export function boundaryOf(
  installation: Installation,
  attached: AttachedServer,
  socket: Socket,
  isAnswered: boolean,
  idle: IdleParsers,
): Boundary | typeof NOTHING {
  if (socket.writableLength > 0 || bytesInFlight(socket) > 0 || socket.writableEnded || socket.readableEnded) return NOTHING
  if (installation.holds.isHeld(socket)) return NOTHING
  const { carried } = installation
  // What is carried dies with this process.
  if (carried.hasConnectionState && carried.asksFor(socket)) return NOTHING
  if (attached.kind === 'http') return httpBoundary(installation, attached, socket, idle)
  if (!isAnswered || socket.readableLength > 0) return NOTHING
  if (carried.hasServerState([attached.server])) return NOTHING
  const protocol = installation.protocols.of(socket, attached)
  return protocol?.name === 'raw' && protocol.obstacleOf(socket) === undefined ? BOUNDARY.raw : NOTHING
}

function httpBoundary(installation: Installation, attached: AttachedServer, socket: Socket, idle: IdleParsers): Boundary | typeof NOTHING {
  const parser = parserOf(socket)
  // Whatever is spoken over a WebSocket: everything that was written is whole frames.
  if (parser === null) return installation.protocols.of(socket, attached)?.name === 'websocket' ? BOUNDARY.websocket : NOTHING
  if (httpMessageOf(socket) !== null || isThrottled(socket)) return NOTHING
  return accountOf(socket).consumed === 0 || idle.has(attached.server, parser) ? BOUNDARY.http : NOTHING
}

const FLAGS_AT = 3
const SERVER_AT = 16
