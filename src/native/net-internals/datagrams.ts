/* UDP sockets: where they are bound, and how they get another descriptor. */
import type { Socket } from 'node:dgram'
import { constants } from 'node:os'
import { setSymbolValue, symbolValue, systemError } from './private-fields.js'

/** libuv's UDP handle as Node wraps it (src/udp_wrap.cc). */
interface DatagramHandle {
  readonly fd: number
  lookup(address: string, callback: (...answer: unknown[]) => void): void
  bind(address: string, port: number, flags: number): number
  open(fd: number): number
  connect(address: string, port: number): number
  disconnect(): number
  getpeername(into: { address?: string; port?: number }): number
  addMembership(...group: unknown[]): number
  addSourceSpecificMembership(...group: unknown[]): number
  recvStart(): number
  recvStop(): number
  hasRef(): boolean
  ref(): void
  unref(): void
  close(): void
  readonly constructor: new () => DatagramHandle
}

/** @note lib/dgram.js: `this[kStateSymbol]`, whose handle is null once the socket is closed. */
const handleOf = (socket: Socket): DatagramHandle | null =>
  (symbolValue(socket, socket, 'state symbol') as { handle: DatagramHandle | null }).handle

export const datagramFdOf = (socket: Socket): number => handleOf(socket)?.fd ?? -1

/** Where a UDP socket is to be bound, once Node has resolved the address. */
export interface DatagramBind {
  readonly address: string
  readonly port: number
  readonly flags: number
}

export interface DatagramWatcher {
  /** Whether it is to be bound to a port that nobody knows, whatever it asks for. */
  isUnreachable(): boolean
  /** A look-up begins; what it returns is called when it has ended. */
  lookup(): () => void
  bound(at: DatagramBind): void
  /** The address is taken: a descriptor that is bound there, which the socket then owns and does not read from until `startReceiving`. */
  taken(at: DatagramBind): number | undefined
}

/**
 * Watches one UDP socket being bound; it stays as synchronous as Node's. Cluster workers get theirs from the primary and never come here.
 * @note lib/dgram.js bind(), bindSync(): handle.lookup(), then handle.bind(); for IPv6 newHandle() puts bind6 in the place of bind.
 */
export function watchBind(socket: Socket, watcher: DatagramWatcher): void {
  const handle = handleOf(socket)
  if (handle === null) return
  const { lookup, bind } = handle
  handle.lookup = (address, callback) => {
    const done = watcher.lookup()
    lookup(address, (...answer) => {
      done()
      callback(...answer)
    })
  }
  handle.bind = (address, port, flags) => {
    const at = { address, port, flags }
    const error = bind.call(handle, address, watcher.isUnreachable() ? 0 : port, flags)
    if (error === 0) watcher.bound(at)
    const fd = error === -constants.errno.EADDRINUSE ? watcher.taken(at) : undefined
    if (fd === undefined) return error
    adopt(socket, handle, fd)
    return 0
  }
}

/** As lib/dgram.js replaceHandle(). What the socket holds is another process's as well until `startReceiving`: it reads nothing, and connects to nobody. */
function adopt(socket: Socket, old: DatagramHandle, fd: number): void {
  const handle = new old.constructor()
  const error = handle.open(fd)
  if (error) throw systemError(error, 'open')
  Object.assign(handle, old)
  setSymbolValue(handle, old, 'owner_symbol', socket)
  if (!old.hasRef()) handle.unref()
  old.close()
  const state = symbolValue(socket, socket, 'state symbol') as { handle: DatagramHandle }
  state.handle = handle
  const ownConnect = Object.hasOwn(old, 'connect') ? old.connect : undefined
  let wanted: [string, number] | undefined
  const still: Partial<DatagramHandle> = handle as never
  still.recvStart = () => 0
  still.connect = (...peer) => {
    wanted = peer
    return 0
  }
  still.disconnect = () => {
    wanted = undefined
    return 0
  }
  starts.set(handle, () => {
    for (const name of ['recvStart', 'connect', 'disconnect'] as const) delete still[name]
    if (ownConnect) still.connect = ownConnect
    connectAs(handle, wanted)
    handle.recvStart()
  })
  joinOnce(handle, 'addMembership', constants.errno.EADDRINUSE)
  joinOnce(handle, 'addSourceSpecificMembership', constants.errno.EADDRNOTAVAIL)
}

/** How an adopted handle becomes an ordinary one. */
const starts = new WeakMap<DatagramHandle, () => void>()

/** A group that the predecessor has joined came with the descriptor. @note net/ipv4/igmp.c: the errors of joining again. */
function joinOnce(handle: DatagramHandle, method: 'addMembership' | 'addSourceSpecificMembership', joined: number): void {
  const join = handle[method]
  handle[method] = (...group) => {
    const error = join.apply(handle, group)
    return error === -joined ? 0 : error
  }
}

/** Lets an adopted socket read, and be connected as this process's application wants it; nothing of what has queued is lost. */
export function startReceiving(socket: Socket): void {
  const handle = handleOf(socket)
  const start = handle ? starts.get(handle) : undefined
  if (handle) starts.delete(handle)
  start?.()
}

function connectAs(handle: DatagramHandle, wanted: [string, number] | undefined): void {
  const peer: { address?: string; port?: number } = {}
  const isConnected = handle.getpeername(peer) === 0
  if (wanted && isConnected && peer.address === wanted[0] && peer.port === wanted[1]) return
  if (isConnected) handle.disconnect()
  if (wanted) handle.connect(...wanted)
}

/** Nothing more leaves the kernel's queue here. The socket stays open, for what the application still sends, and does not hold the loop. Returns how to undo it. */
export function stopReceiving(socket: Socket): () => void {
  const handle = handleOf(socket)
  if (handle === null) return () => {}
  const hadRef = handle.hasRef()
  handle.recvStop()
  handle.unref()
  return () => {
    if (handleOf(socket) !== handle) return // closed meanwhile
    handle.recvStart()
    if (hadRef) handle.ref()
  }
}

/** @note include/uv.h enum uv_udp_flags. UV_UDP_IPV6ONLY, UV_UDP_REUSEADDR, UV_UDP_REUSEPORT. */
export const UDP_FLAG = { ipv6Only: 1, reuseAddress: 4, reusePort: 8 } as const
