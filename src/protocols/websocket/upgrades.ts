/**
 * Which request a connection was upgraded by, and what the inflater of its WebSocket begins with. Nothing else of an HTTP server's work is looked at, and
 * a server that nobody upgrades on is left alone.
 */
import type { IncomingMessage } from 'node:http'
import type { Server, Socket } from 'node:net'
import { noteConversation } from '../dialects/graphql-conversation.js'
import { override } from '../override.js'
import { type RequestHead, requestOf } from '../request-head.js'
import { prepareInflating } from './inflating.js'
import { onWebSocket } from './sight.js'
import { deflateOf, type WebSocketInternals } from './ws.js'

/**
 * Notes each request before the application's own 'upgrade' listeners have it, which may change it. Not by a listener of its own: some ask how many
 * there are. While nobody listens nothing is in the way of what the server emits. Returns how to undo it.
 */
export function noteUpgrades(server: Server, follow: Follow | undefined): () => void {
  let undo: (() => void) | undefined
  const notice = () => {
    const { emit } = server
    undo = override(server, {
      emit(this: Server, event: string, ...args: [IncomingMessage, Socket]) {
        if (event === 'upgrade') noteUpgrade(args[0], args[1], follow)
        return Reflect.apply(emit, this, [event, ...args])
      },
    } as never)
  }
  const serverOnNewListener = (event: string | symbol) => {
    if (event !== 'upgrade') return
    server.off('newListener', serverOnNewListener)
    notice()
  }
  if (server.listenerCount('upgrade') > 0) notice()
  else server.on('newListener', serverOnNewListener)
  return () => {
    server.off('newListener', serverOnNewListener)
    undo?.()
  }
}

/** What is to learn of a WebSocket that nobody has yet. */
type Follow = (ws: WebSocketInternals) => void

function noteUpgrade(request: IncomingMessage, socket: Socket, follow: Follow | undefined): void {
  ;(socket as Noted)[UPGRADE] = requestOf(request)
  // Of one that arrives from a predecessor this has been done by then, with what its inflater remembered there.
  onWebSocket(socket, (ws) => {
    const deflate = deflateOf(ws)
    if (deflate) prepareInflating(deflate)
    noteConversation(ws)
    follow?.(ws)
  })
}

export function upgradeOf(socket: Socket): RequestHead | undefined {
  return (socket as Noted)[UPGRADE]
}

type Noted = Socket & { [UPGRADE]?: RequestHead | undefined }
const UPGRADE = Symbol('tsunagi.upgrade')
