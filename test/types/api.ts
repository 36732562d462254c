/* The published types, as an application meets them: this file only has to compile. */
import http from 'node:http'
import type { Server, Socket } from 'node:net'
import type { WebSocket } from 'ws'
import {
  attach,
  carry,
  createServer,
  defer,
  isResumed,
  owned,
  type ReloadOptions,
  ready,
  reload,
  restore,
  retiring,
  snapshot,
} from '../../src/index.js'
import net from '../../src/net.js'

/** A server keeps its own type. */
attach(http.createServer()) satisfies http.Server
createServer({ allowHalfOpen: true, policy: () => 'drain' }, (socket) => socket.end()) satisfies Server
net.createServer() satisfies Server

// @ts-expect-error: 'keep' is no decision
createServer({ policy: () => 'keep' })
// @ts-expect-error: what is carried is an object
carry(createServer(), 'count', () => 1)

export async function use(server: Server, socket: Socket, request: http.IncomingMessage, websocket: WebSocket): Promise<void> {
  carry(server, 'rooms', () => new Map<string, Set<Socket>>()).get('lobby') satisfies Set<Socket> | undefined
  carry(socket, 'session', () => ({ user: '' }), { version: 2, migrate: (value, fromVersion) => ({ user: `${value}${fromVersion}` }) })
    .user satisfies string
  carry.define('session', { version: 2, migrate: () => ({ user: '' }) })
  isResumed(socket) satisfies boolean
  defer(socket)[Symbol.dispose]()
  isResumed(request) satisfies boolean
  carry(websocket, 'session', () => ({ user: '' })).user satisfies string
  defer(websocket)[Symbol.dispose]()
  ready(owned())
  retiring.aborted satisfies boolean
  const { ending } = await snapshot('/tmp/saved')
  ending satisfies [string, number][]
  restore('/tmp/saved').listeners satisfies string[]
  const options: ReloadOptions = { env: 'fresh', timeout: 1_000 }
  const { moved, stayed } = await reload(options)
  moved satisfies number
  stayed satisfies { reason: string; connections: number }[]
}
