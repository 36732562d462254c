import type { Server } from 'node:net'
import { constants } from 'node:os'
import type { AttachedServer } from './attached-server.js'
import {
  adoptListener,
  createServerHandle,
  listen2Of,
  serverHandleOf,
  setListen2,
  setServerHandle,
  type TcpConstructor,
  type TcpHandle,
} from './native/net-internals.js'

/** Who is asked for a listener where the address is taken, and told when a server listens on one of its own. */
export interface ListenerKeeper {
  /** The predecessor's listening fd for the server's address, which the caller then owns; `undefined`: nobody hands it over. Throws what the server shall emit. */
  inherit(attached: AttachedServer, tcp: TcpConstructor): number | undefined
  listening(attached: AttachedServer): void
}

/**
 * Wraps `listen()` of one server where its address is resolved. It stays as synchronous as Node's: bind and listen as ever;
 * only where that gives EADDRINUSE is the process that holds the address asked for its listener. Returns how to undo it.
 */
export function wrapListen(attached: AttachedServer, keeper: ListenerKeeper): () => void {
  const original = listen2Of(attached.server)
  setListen2(attached.server, function listen2(address, port, addressType, backlog, fd, flags) {
    const proceed = (at: { address: string | null; addressType: number }) =>
      original.call(this, at.address, port, at.addressType, backlog, fd, flags)
    const asNode = { address, addressType }
    // Port 0 is never inherited; an fd, a path, SO_REUSEPORT and a cluster worker's handle have no address to meet at.
    if (port <= 0 || addressType < 0 || typeof fd === 'number' || ((flags ?? 0) & UV_TCP_REUSEPORT) !== 0 || serverHandleOf(this)) {
      proceed(asNode)
      if (addressType >= 0) noteListening(attached, flags, backlog, keeper)
      return
    }
    const attempt = bindAndListen(asNode, port, backlog, flags)
    if (attempt === undefined) return proceed(asNode) // Node reports the error
    if (attempt.error === 0) {
      setServerHandle(this, attempt.handle)
      proceed(attempt)
      noteListening(attached, flags, backlog, keeper)
      return
    }
    const tcp = attempt.handle.constructor
    attempt.handle.close()
    if (attempt.error !== -constants.errno.EADDRINUSE) return proceed(asNode)
    try {
      attached.listensOn(resolvedAddress(attempt, port, flags), backlog)
      const inherited = keeper.inherit(attached, tcp)
      if (inherited === undefined) {
        attached.key = ''
        return proceed(asNode)
      }
      setServerHandle(this, silentListener(tcp, inherited))
      proceed(attempt)
    } catch (error) {
      attached.key = ''
      process.nextTick(emitError, this, error)
    }
  })
  return () => setListen2(attached.server, original)
}

/** Lets an inherited listener accept, now that this process owns it. */
export function startAccepting(attached: AttachedServer): void {
  const handle = serverHandleOf(attached.server)
  if (handle === null || !Object.hasOwn(handle, 'listen')) return
  delete (handle as Partial<TcpHandle>).listen
  handle.listen(attached.backlog)
}

/** Node's listen() runs to its end on this handle, 'listening' included, but the loop does not accept yet: the predecessor still does. */
function silentListener(tcp: TcpConstructor, fd: number): TcpHandle {
  const handle = adoptListener(tcp, fd)
  handle.listen = () => 0
  return handle
}

/** @note lib/net.js setupListenHandle: without an address `::` is tried first, then 0.0.0.0. libuv reports EADDRINUSE of bind(2) only at listen. */
function bindAndListen(at: { address: string | null; addressType: number }, port: number, backlog: number, flags: number | undefined) {
  const candidates = at.address
    ? [{ address: at.address, addressType: at.addressType }]
    : [
        { address: '::', addressType: 6 },
        { address: '0.0.0.0', addressType: 4 },
      ]
  for (const candidate of candidates) {
    const handle = createServerHandle(candidate.address, port, candidate.addressType, flags)
    if (typeof handle !== 'number') return { ...candidate, handle, error: handle.listen(backlog || 511) }
  }
  return undefined
}

function noteListening(attached: AttachedServer, flags: number | undefined, backlog: number, keeper: ListenerKeeper): void {
  const bound = boundAddress(attached.server)
  if (bound === undefined) return
  attached.listensOn({ ...bound, ipv6Only: bound.family === 'IPv6' && ((flags ?? 0) & UV_TCP_IPV6ONLY) !== 0 }, backlog)
  keeper.listening(attached)
}

/** Where a server listens now, or `undefined` if it does not listen on TCP by a handle of its own. */
export function boundAddress(server: Server): { family: 'IPv4' | 'IPv6'; address: string; port: number } | undefined {
  const handle = serverHandleOf(server)
  if (handle === null || typeof handle.fd !== 'number' || handle.fd < 0 || handle.constructor.name !== 'TCP') return undefined
  const name: { address?: string; port?: number; family?: string } = {}
  if (handle.getsockname(name) !== 0) return undefined
  return { family: name.family === 'IPv4' ? 'IPv4' : 'IPv6', address: name.address ?? '', port: name.port ?? 0 }
}

function resolvedAddress(at: { address: string; addressType: number }, port: number, flags: number | undefined) {
  const family = at.addressType === 6 ? ('IPv6' as const) : ('IPv4' as const)
  return { family, address: canonical(at.address, family), port, ipv6Only: family === 'IPv6' && ((flags ?? 0) & UV_TCP_IPV6ONLY) !== 0 }
}

/** The spelling the kernel gives back from getsockname, so that both sides make the same key. */
function canonical(address: string, family: 'IPv4' | 'IPv6'): string {
  return family === 'IPv4' ? address : new URL(`http://[${address.replace(/%.*$/, '')}]`).hostname.slice(1, -1)
}

function emitError(server: Server, error: unknown): void {
  server.emit('error', error)
}

/** @note include/uv.h enum uv_tcp_flags. */
const UV_TCP_IPV6ONLY = 1
const UV_TCP_REUSEPORT = 2
