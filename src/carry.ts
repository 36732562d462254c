import type { Server } from 'node:net'
import { installation } from './attach.js'
import { CarriedState, type CarryOptions, checkScope } from './carry/carried-state.js'
import { type ConnectionScope, socketOf } from './connection-scope.js'

/**
 * A container (plain object, array, Map or Set) that goes along with a server or a connection: `init` makes it the first time, and in the
 * successor it comes back with what it held. A connection may be named by its socket, a request or response on it, or its WebSocket. A server's container is refilled in place at the handover, so keep the reference; ask for a
 * connection's inside its 'connection' handler. Identity is kept across everything that is carried: what was one object is one object.
 * Accepted sockets inside it stay references; other sockets, such as a proxy's upstream, move along.
 *
 * @throws TypeError ERR_TSUNAGI_CARRY; TsunagiError ERR_TSUNAGI_STATE_VERSION for a connection's value of a version that nobody declared
 */
export function carry<T extends object>(scope: Server | ConnectionScope, name: string, init: () => T, options: CarryOptions<T> = {}): T {
  const socket = socketOf(scope)
  const owner = socket ?? scope
  checkScope(owner, name)
  const here = installation()
  if (here && socket) here.resumption.ask(socket)
  return (here?.carried ?? withoutAddon).carry(owner, name, init, options)
}

/** Declares at module level what connections carry under `name`, so that versions are compared before anything is frozen: connections whose version nobody can migrate drain. */
carry.define = function define<T extends object>(name: string, options: CarryOptions<T>): void {
  ;(installation()?.carried ?? withoutAddon).define(name, options)
}

/** Whether this connection came from a predecessor. Asking counts as knowing about handovers: what the handler writes is sent from then on. */
export function isResumed(connection: ConnectionScope): boolean {
  const socket = socketOf(connection)
  return socket !== undefined && installation()?.resumption.ask(socket) === true
}

/** Where connections cannot move, carried values live and die with their process. */
const withoutAddon = new CarriedState()
