/** When a WebSocket comes into being on a socket. Its library puts it there before it listens to the socket, and before anything is read or sent. */
import type { Socket } from 'node:net'
import { type WebSocketInternals, webSocketOn } from './ws.js'

export function onWebSocket(socket: Socket, callback: (ws: WebSocketInternals) => void): void {
  const socketOnNewListener = () => {
    const ws = webSocketOn(socket)
    if (ws === undefined) return
    socket.off('newListener', socketOnNewListener)
    callback(ws)
  }
  socket.on('newListener', socketOnNewListener)
}
