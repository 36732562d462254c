/** Which request a connection was upgraded by. Nothing else of an HTTP server's work is looked at, and a server that nobody upgrades on is left alone. */
import type { IncomingMessage } from 'node:http'
import type { Server, Socket } from 'node:net'
import { type RequestHead, requestOf } from '../replay.js'

/**
 * Calls `onUpgrade` before the application's own 'upgrade' listeners, which may change the request. A listener of ours alone would make the server
 * upgrade where without it Node answers the request, so it comes and goes with those of the application. Returns how to take it away.
 */
export function noticeUpgrades(server: Server, onUpgrade: (request: IncomingMessage, socket: Socket) => void): () => void {
  const serverOnUpgrade = (request: IncomingMessage, socket: Socket) => onUpgrade(request, socket)
  const putFirst = () => {
    server.off('upgrade', serverOnUpgrade)
    if (server.listenerCount('upgrade') > 0) server.prependListener('upgrade', serverOnUpgrade)
  }
  const serverOnNewListener = (event: string | symbol, listener: unknown) => {
    if (event === 'upgrade' && listener !== serverOnUpgrade) process.nextTick(putFirst) // it says so before it is added
  }
  const serverOnRemoveListener = (event: string | symbol, listener: unknown) => {
    if (event === 'upgrade' && listener !== serverOnUpgrade) putFirst()
  }
  server.on('newListener', serverOnNewListener)
  server.on('removeListener', serverOnRemoveListener)
  putFirst()
  return () => {
    server.off('newListener', serverOnNewListener)
    server.off('removeListener', serverOnRemoveListener)
    server.off('upgrade', serverOnUpgrade)
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
