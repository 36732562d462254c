import type { Server } from 'node:net'
import { installation } from './attach.js'
import { CarriedState, type CarryOptions, checkScope } from './carry/carried-state.js'
import { type ConnectionScope, requestOfScope, socketOf } from './connection-scope.js'
import { httpMessageOf } from './native/net-internals.js'
import { ask } from './protocols/asked.js'

/**
 * A container (plain object, array, Map or Set) that goes along with a server or a connection: `init` makes it the first time, and in the
 * successor it comes back with what it held. A server's container is refilled in place at the handover, so keep the reference; ask for a
 * connection's inside its 'connection' handler. A connection may be named by its socket, its WebSocket, or a request or response on it: then it is
 * carried until that response ends, and the response, if it was begun, goes on in the successor where the request's handler runs again.
 * Identity is kept across everything that is carried: what was one object is one object.
 * Accepted sockets inside it stay references; other sockets, such as a proxy's upstream, move along.
 *
 * @throws TypeError ERR_TSUNAGI_CARRY; TsunagiError ERR_TSUNAGI_STATE_VERSION for a connection's value of a version that nobody declared
 */
export function carry<T extends object>(scope: Server | ConnectionScope, name: string, init: () => T, options: CarryOptions<T> = {}): T {
  const socket = socketOf(scope)
  const owner = socket ?? scope
  checkScope(owner, name)
  const here = installation()
  const carried = here?.carried ?? withoutAddon
  const request = socket && requestOfScope(scope)
  if (socket) here?.resumption.ask(socket)
  if (request) ask(request)
  const response = socket && request && !carried.isCarried(socket, name) ? httpMessageOf(socket) : null
  // The next request on the connection has nothing to do with this one.
  if (socket && response?.req === request) response?.once('close', () => carried.drop(socket, name))
  return carried.carry(owner, name, init, options)
}

/** Declares at module level what connections carry under `name`, so that versions are compared before anything is frozen: connections whose version nobody can migrate drain. */
carry.define = function define<T extends object>(name: string, options: CarryOptions<T>): void {
  ;(installation()?.carried ?? withoutAddon).define(name, options)
}

/**
 * Whether this connection came from a predecessor; of a request or its response: whether it was begun there. Asking counts as knowing about
 * handovers: what the handler writes is sent from then on.
 */
export function isResumed(connection: ConnectionScope): boolean {
  const socket = socketOf(connection)
  const resumed = socket !== undefined && installation()?.resumption.ask(socket) === true
  const request = requestOfScope(connection)
  return request ? ask(request) : resumed
}

/** Where connections cannot move, carried values live and die with their process. */
const withoutAddon = new CarriedState()
