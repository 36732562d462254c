import net, { type Server } from 'node:net'
import {
  type Listen2,
  learnOwnerSymbol,
  type ServerHandle,
  serverInternals,
  setSymbolValue,
  systemError,
  type TcpHandle,
} from './private-fields.js'

export const listen2Of = (server: Server): Listen2 => serverInternals(server)._listen2
export const setListen2 = (server: Server, listen2: Listen2): void => {
  serverInternals(server)._listen2 = listen2
}
export const serverHandleOf = (server: Server): ServerHandle | null => serverInternals(server)._handle
export const setServerHandle = (server: Server, handle: ServerHandle | null): void => {
  serverInternals(server)._handle = handle
}
export const serverFdOf = (server: Server): number => serverInternals(server)._handle?.fd ?? -1

/** Node's own way to a bound handle, or a negative error number. @note lib/net.js exports it as `_createServerHandle` for tests and clusters. */
export function createServerHandle(
  address: string | null,
  port: number,
  addressType: number,
  flags: number | undefined,
): TcpHandle | number {
  const create = (net as unknown as { _createServerHandle(...args: unknown[]): TcpHandle | number })._createServerHandle
  return create(address, port, addressType, undefined, flags)
}

/** A handle of the same kind around a listening fd, which it owns from here. With `server` it is wired as setupListenHandle would. */
export function adoptListener(tcp: TcpConstructor, fd: number, server?: Server, onconnection?: unknown): TcpHandle {
  const handle = new tcp(TCP_SERVER)
  const error = handle.open(fd)
  if (error) throw systemError(error, 'open')
  if (server) {
    ;(handle as TcpHandle & { onconnection: unknown }).onconnection = onconnection
    setSymbolValue(handle, handle, 'owner_symbol', server)
  }
  return handle
}

/** One more listener whose connections are those of a server that listens already. */
export function adoptSecondListener(server: Server, fd: number): TcpHandle {
  const own = serverInternals(server)._handle as TcpHandle & { onconnection: unknown }
  learnOwnerSymbol(own)
  const handle = adoptListener(own.constructor, fd, server, own.onconnection) as TcpHandle & { unref(): void }
  handle.unref() // the other one says whether this process has something to wait for
  return handle
}

/**
 * Whether a cluster worker's handle only stands for the primary's, which sends connections one by one.
 * @note lib/internal/cluster/child.js rr(): an object of five functions, without an fd.
 */
export const isOfPrimary = (handle: ServerHandle): boolean => typeof handle.fd !== 'number'

/**
 * Gives every connection that the primary sends back to it, so that another worker gets it; nothing of the server changes for the application.
 * @note lib/internal/cluster/child.js onconnection() asks the handle's owner whether it has room, _disconnect() closes it.
 */
export function declineConnections(server: Server): void {
  const handle = serverInternals(server)._handle
  const full = { maxConnections: 1, _connections: 1, close: (callback: () => void) => server.close(callback) }
  if (handle) setSymbolValue(handle, handle, 'owner_symbol', full)
}

/** Takes what the primary sends, and keeps it until `acceptConnections`: where a worker is the only one, declining would send each back and forth. */
export function keepConnections(server: Server): void {
  const handle = serverInternals(server)._handle as (ServerHandle & { onconnection: (...connection: unknown[]) => void }) | null
  if (handle === null) return
  const { onconnection } = handle
  const kept: unknown[][] = []
  handle.onconnection = (...connection) => void kept.push(connection)
  keeping.set(handle, () => {
    handle.onconnection = onconnection
    for (const connection of kept) onconnection.apply(handle, connection)
  })
}

const keeping = new WeakMap<ServerHandle, () => void>()

/** The inverse of both: this worker gets its share. */
export function acceptConnections(server: Server): void {
  const handle = serverInternals(server)._handle
  if (handle === null) return
  setSymbolValue(handle, handle, 'owner_symbol', server)
  keeping.get(handle)?.()
  keeping.delete(handle)
}

/** For a server whose listener has gone: its application may close it, and ask whether it listens, as ever. */
export function giveEmptyHandle(server: Server): void {
  serverInternals(server)._handle = new (tcpConstructor())(TCP_SERVER)
}

export type TcpConstructor = new (type: number) => TcpHandle

/** From a server that listens, so that no handle has to be made for it on the day on which this process may open no more descriptors. */
export function learnConstructor(server: Server): void {
  const made = serverInternals(server)._handle?.constructor
  if (made?.name === 'TCP') constructors.tcp ??= made
  if (made?.name === 'Pipe') constructors.pipe ??= made
}

/** Node does not export its handle classes: they are taken from one that is there, else from one that is made for it, once. */
export function tcpConstructor(): TcpConstructor {
  constructors.tcp ??= constructorOf(createServerHandle('0.0.0.0', 0, 4, 0))
  return constructors.tcp
}

export function pipeConstructor(): TcpConstructor {
  constructors.pipe ??= constructorOf(createServerHandle(`\0tsunagi.${process.pid}.${Date.now()}`, -1, -1, 0))
  return constructors.pipe
}

const constructors: { tcp?: TcpConstructor; pipe?: TcpConstructor } = {}

function constructorOf(handle: TcpHandle | number): TcpConstructor {
  if (typeof handle === 'number') throw systemError(handle, 'bind')
  handle.close()
  return handle.constructor
}

/** @note src/tcp_wrap.h and src/pipe_wrap.h: enum SocketType { SOCKET, SERVER }. */
export const TCP_SOCKET = 0
const TCP_SERVER = 1
