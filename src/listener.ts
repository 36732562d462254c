import type { Server } from 'node:net'
import { constants } from 'node:os'
import { resolve } from 'node:path'
import type { AttachedServer } from './attached-server.js'
import type { ListeningAddress } from './channel/rendezvous.js'
import type { Native } from './native/native.js'
import {
  acceptConnections,
  adoptListener,
  createServerHandle,
  declineConnections,
  isOfPrimary,
  keepConnections,
  type Listen2,
  learnConstructor,
  listen2Of,
  pipeConstructor,
  type ServerHandle,
  serverHandleOf,
  setListen2,
  setServerHandle,
  tcpConstructor,
} from './native/net-internals.js'
import { isClusterWorker } from './slot.js'

/** Who is asked for a listener where the address is taken, and told when a server listens on one of its own. */
export interface ListenerKeeper {
  /** The predecessor's listening fd for the server's address, which the caller then owns; `undefined`: nobody hands it over. Throws what the server shall emit. */
  inherit(attached: AttachedServer): number | undefined
  /** The address was free. A copy of the listening fd if connections of an earlier process wait for it, so that it must not accept before they are here. */
  waits(attached: AttachedServer, fd: number): number | undefined
  /**
   * Who has connections of this server for the worker in its slot: the worker that it replaces, which takes new ones meanwhile, or a holder. This
   * server must have none before those. Never throws.
   */
  inheritSlot(attached: AttachedServer): 'worker' | 'holder' | undefined
  /** A listener for the server's address that the service manager has opened, and nobody accepts on; the caller owns it. */
  activated?(attached: AttachedServer): number | undefined
  /** The server listens; its key is '' where it has no address of its own. */
  listening(attached: AttachedServer): void
}

/** What listen() was called for, once Node has resolved the address. A path has port and addressType -1. */
interface Wanted {
  address: string | null
  port: number
  addressType: number
  backlog: number
  fd: number | undefined
  flags: number | undefined
}

/**
 * Wraps `listen()` of one server where its address is resolved. It stays as synchronous as Node's: bind and listen as ever;
 * only where that gives EADDRINUSE is the process that holds the address asked for its listener. Returns how to undo it.
 */
export function wrapListen(attached: AttachedServer, keeper: ListenerKeeper, original = listen2Of(attached.server)): () => void {
  const { server } = attached
  setListen2(server, function listen2(this: Server, address, port, addressType, backlog, fd, flags) {
    listenOrInherit(attached, keeper, { address, port, addressType, backlog, fd, flags }, (at) =>
      original.call(this, at.address, port, at.addressType, backlog, fd, flags),
    )
  } satisfies Listen2)
  return () => setListen2(server, original)
}

type Proceed = (at: { address: string | null; addressType: number }) => void

function listenOrInherit(attached: AttachedServer, keeper: ListenerKeeper, wanted: Wanted, proceed: Proceed): void {
  const { server } = attached
  if (isShared(server, wanted)) return listenInCluster(attached, keeper, wanted, proceed)
  if (!hasAddressToMeetAt(server, wanted)) {
    proceed(wanted)
    return noteListening(attached, keeper, wanted)
  }
  const attempt = bindAndListen(wanted)
  if (attempt === undefined) return proceed(wanted) // Node reports the error
  if (attempt.handle && attempt.error === 0) return listenOnFree(attached, keeper, wanted, attempt.handle, () => proceed(attempt))
  attempt.handle?.close()
  if (attempt.error !== -constants.errno.EADDRINUSE) return proceed(wanted)
  try {
    attached.listensOn(resolvedAddress(attempt, wanted), wanted.backlog)
    const inherited = keeper.inherit(attached)
    // Whoever held it may have given it up just now.
    const again = inherited === undefined ? bindAndListen(wanted) : undefined
    if (again?.handle && again.error === 0) return listenOnFree(attached, keeper, wanted, again.handle, () => proceed(again))
    again?.handle?.close()
    const kind = isPath(wanted) ? pipeConstructor() : tcpConstructor()
    const given = inherited === undefined ? keeper.activated?.(attached) : undefined
    if (given !== undefined) {
      return listenOnFree(attached, keeper, wanted, adoptListener(kind, given), () => proceed(attempt))
    }
    if (inherited === undefined) {
      attached.key = ''
      return proceed(wanted)
    }
    setServerHandle(server, silentListener(kind, inherited))
    proceed(attempt)
  } catch (error) {
    attached.key = ''
    process.nextTick(emitError, server, error)
  }
}

/** The address was free. What waits for it somewhere comes before any new connection, or that would meet a server whose state is not here yet. */
function listenOnFree(attached: AttachedServer, keeper: ListenerKeeper, wanted: Wanted, handle: ServerHandle, proceed: () => void): void {
  const { server } = attached
  setServerHandle(server, handle)
  try {
    const bound = boundAddress(server, wanted.flags)
    if (bound) attached.listensOn(bound, wanted.backlog)
    const copy = bound && keeper.waits(attached, handle.fd)
    if (copy !== undefined) {
      setServerHandle(server, silentListener(handle.constructor, copy))
      handle.close()
      return proceed()
    }
  } catch (error) {
    handle.close()
    setServerHandle(server, null)
    attached.key = ''
    return void process.nextTick(emitError, server, error)
  }
  proceed()
  noteListening(attached, keeper, wanted)
}

/** In a cluster worker the primary listens: there is no listener to hand over, only connections, and only from the worker that this one replaces. */
function listenInCluster(attached: AttachedServer, keeper: ListenerKeeper, wanted: Wanted, proceed: Proceed): void {
  const { server } = attached
  const handle = serverHandleOf(server) as ServerHandle
  attached.isShared = true
  const shared = sharedAddress(server, wanted)
  if (shared) attached.listensOn(shared, wanted.backlog)
  attached.path = '' // it is the primary's to remove
  const from = shared && keeper.inheritSlot(attached)
  if (from && !isOfPrimary(handle)) handle.listen = () => 0
  proceed(wanted)
  if (!from) return keeper.listening(attached)
  if (!isOfPrimary(handle)) return
  if (from === 'worker') declineConnections(server)
  else keepConnections(server)
}

/**
 * Whether the primary gave the server its handle.
 * @note lib/internal/cluster/child.js: a stand-in under round-robin, else a duplicate of the primary's; `listen({ fd })` names the primary's as well.
 */
function isShared(server: Server, { port, address, fd }: Wanted): boolean {
  return serverHandleOf(server) !== null && typeof fd !== 'number' && (port >= 0 || address !== null) && isClusterWorker()
}

function sharedAddress(server: Server, wanted: Wanted): ListeningAddress | undefined {
  if (isPath(wanted)) return { family: 'unix', address: absolute(wanted.address ?? '') }
  return tcpAddress(server, wanted.flags)
}

/** Port 0 is never inherited; an fd, SO_REUSEPORT and a cluster worker's handle have no address to meet at. */
function hasAddressToMeetAt(server: Server, { port, fd, flags }: Wanted): boolean {
  return port !== 0 && typeof fd !== 'number' && ((flags ?? 0) & UV_TCP_REUSEPORT) === 0 && serverHandleOf(server) === null
}

/** Lets an inherited listener accept, now that this process owns it. */
export function startAccepting(native: Native | undefined, attached: AttachedServer): void {
  const handle = serverHandleOf(attached.server)
  if (handle === null) return
  if (isOfPrimary(handle)) return acceptConnections(attached.server)
  if (!Object.hasOwn(handle, 'listen')) return
  delete (handle as Partial<ServerHandle>).listen
  handle.listen(attached.backlog)
  // As with a path that this process has bound: closing the server removes it.
  if (attached.path) native?.claimPipePath(handle.fd, attached.path)
}

/** A listening socket on a port that nobody knows of, for a server that shall believe that it listens. The caller owns it. */
export function unreachableListener(native: Native): number {
  const handle = createServerHandle('127.0.0.1', 0, 4, 0)
  if (typeof handle === 'number') throw new Error(`no port is free (${handle})`)
  const fd = native.duplicateFd(handle.fd)
  handle.close()
  return fd
}

/** Node's listen() runs to its end on this handle, 'listening' included, but the loop does not accept yet: the predecessor still does. */
function silentListener(kind: ServerHandle['constructor'], fd: number): ServerHandle {
  const handle = adoptListener(kind, fd)
  handle.listen = () => 0
  return handle
}

/**
 * @note lib/net.js setupListenHandle: without an address `::` is tried first, then 0.0.0.0. For TCP libuv reports EADDRINUSE of bind(2)
 * only at listen, for a path at once, without a handle.
 */
function bindAndListen(wanted: Wanted) {
  const candidates = wanted.address
    ? [{ address: wanted.address, addressType: wanted.addressType }]
    : [
        { address: '::', addressType: 6 },
        { address: '0.0.0.0', addressType: 4 },
      ]
  for (const candidate of candidates) {
    const handle = createServerHandle(candidate.address, wanted.port, candidate.addressType, wanted.flags)
    if (typeof handle !== 'number') return { ...candidate, handle, error: handle.listen(wanted.backlog || 511) }
    if (isPath(wanted)) return { ...candidate, handle: undefined, error: handle }
  }
  return undefined
}

function noteListening(attached: AttachedServer, keeper: ListenerKeeper, { backlog, flags }: Wanted): void {
  if (serverHandleOf(attached.server) === null) return
  learnConstructor(attached.server)
  const bound = boundAddress(attached.server, flags)
  if (bound) attached.listensOn(bound, backlog)
  keeper.listening(attached)
}

/** Where a server listens now, or `undefined` if it does not listen by a handle of its own, as a cluster worker does not. */
export function boundAddress(server: Server, flags = 0): ListeningAddress | undefined {
  const handle = serverHandleOf(server)
  if (handle === null || typeof handle.fd !== 'number' || handle.fd < 0) return undefined
  const address = server.address()
  return typeof address === 'string' ? { family: 'unix', address: absolute(address) } : tcpAddress(server, flags)
}

function tcpAddress(server: Server, flags: number | undefined): ListeningAddress | undefined {
  const address = server.address()
  if (typeof address === 'string' || address === null) return undefined
  const family = address.family === 'IPv4' ? ('IPv4' as const) : ('IPv6' as const)
  return { family, address: canonical(address.address, family), port: address.port, ipv6Only: isIpv6Only(family, flags) }
}

function resolvedAddress(at: { address: string; addressType: number }, wanted: Wanted): ListeningAddress {
  if (isPath(wanted)) return { family: 'unix', address: absolute(at.address) }
  const family = at.addressType === 6 ? ('IPv6' as const) : ('IPv4' as const)
  return { family, address: canonical(at.address, family), port: wanted.port, ipv6Only: isIpv6Only(family, wanted.flags) }
}

function isPath({ port }: Wanted): boolean {
  return port < 0
}

/** An abstract name, which begins with NUL, is no path (unix(7)). */
function absolute(path: string): string {
  return path.startsWith('\0') ? path : resolve(path)
}

function isIpv6Only(family: 'IPv4' | 'IPv6', flags: number | undefined): boolean {
  return family === 'IPv6' && ((flags ?? 0) & UV_TCP_IPV6ONLY) !== 0
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
