import type { IncomingMessage } from 'node:http'
import type { Obstacle } from '../protocol.js'
import type { RequestHead } from '../request-head.js'
import type { WebSocketInternals } from './ws.js'

/**
 * What a library speaks on its WebSockets, where the request to upgrade is not all that it has been told: it knows its clients by a session, or by their
 * first message. The WebSocket moves as any other, and the dialect restores in the new one's library what came after the request.
 */
export interface Dialect {
  /** Its name in the record: permanent. */
  readonly name: string
  /** A server takes part, so that its library is loaded if the application has one: gets ready to learn of its objects. */
  prepare?(): void

  // ---- in the predecessor

  speaks(ws: WebSocketInternals, request: RequestHead): boolean
  obstacleOf(ws: WebSocketInternals): Obstacle | undefined
  /** Plain data. Nothing is changed. */
  snapshot(ws: WebSocketInternals): unknown
  /** After the commit: what the library would still do by itself must not happen. */
  leave(ws: WebSocketInternals): { takeBack(): void; letGo(): void }

  // ---- in the successor

  /** `state` is not to be trusted. */
  refuse(state: unknown): string | undefined
  begin(state: unknown, request: RequestHead): Beginning
}

export interface Beginning {
  /** The request as the library is to see it. */
  readonly request: RequestHead
  /** The same, before the application has it. */
  received(message: IncomingMessage): void
  /** The WebSocket is made. Until what this returns has resolved it is not read from. */
  meet(ws: WebSocketInternals): Promise<void> | undefined
}
