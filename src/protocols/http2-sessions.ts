import type { ServerHttp2Session } from 'node:http2'
import type { Server, Socket } from 'node:net'
import { socketsUnder } from '../native/net-internals.js'

/** Which session a connection has: nothing that can be asked later says so. Returns how to stop. */
export function noteSessions(server: Server): () => void {
  server.on('session', serverOnSession)
  return () => server.off('session', serverOnSession)
}

export function sessionOn(socket: Socket): ServerHttp2Session | undefined {
  return sessions.get(socket)
}

const sessions = new WeakMap<Socket, ServerHttp2Session>()

function serverOnSession(session: ServerHttp2Session): void {
  for (const socket of socketsUnder(session)) sessions.set(socket, session)
}
