/** Which request a connection was upgraded by. Nothing else of an HTTP server's work is looked at, and a server that nobody upgrades on is left alone. */
import type { IncomingMessage } from 'node:http'
import type { Server, Socket } from 'node:net'
import { type RequestHead, requestOf } from '../replay.js'
import { override } from './sender.js'

/**
 * Calls `onUpgrade` before the application's own 'upgrade' listeners, which may change the request. Not by a listener of its own: some ask how many
 * there are. While nobody listens nothing is in the way of what the server emits. Returns how to undo it.
 */
export function noticeUpgrades(server: Server, onUpgrade: (request: IncomingMessage, socket: Socket) => void): () => void {
  let undo: (() => void) | undefined
  const notice = () => {
    const { emit } = server
    undo = override(server, {
      emit(this: Server, event: string, ...args: [IncomingMessage, Socket]) {
        if (event === 'upgrade') onUpgrade(...args)
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

export function noteUpgrade(socket: Socket, request: IncomingMessage): void {
  ;(socket as Noted)[UPGRADE] = requestOf(request)
}

export function upgradeOf(socket: Socket): RequestHead | undefined {
  return (socket as Noted)[UPGRADE]
}

type Noted = Socket & { [UPGRADE]?: RequestHead | undefined }
const UPGRADE = Symbol('tsunagi.upgrade')
