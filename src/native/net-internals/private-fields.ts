import type { Server, Socket } from 'node:net'

/* The private fields of Node's classes, typed once, and its private symbols. Only the files of this folder look at them. */

/** libuv's TCP handle as Node wraps it (src/tcp_wrap.cc). */
export interface TcpHandle {
  readonly fd: number
  reading: boolean
  open(fd: number): number
  listen(backlog: number): number
  readStart(): number
  readStop(): number
  close(callback?: () => void): void
  hasRef(): boolean
  getsockname(into: { address?: string; port?: number; family?: string }): number
  readonly writeQueueSize: number
  readonly bytesRead: number
  readonly bytesWritten: number
  readonly constructor: new (type: number) => TcpHandle
}

/** A listening handle: TCP or, for a path, Pipe (src/pipe_wrap.cc). */
export type ServerHandle = TcpHandle

export interface BufferedWrite {
  chunk: Uint8Array | string
  encoding: BufferEncoding | 'buffer'
  callback?: (error?: Error | null) => void
}

export interface ReadableState {
  buffer: { length: number; head?: unknown } & Iterable<Uint8Array | string>
  bufferIndex?: number
  decoder: { lastChar: Buffer; lastNeed: number; lastTotal: number } | null
  encoding: BufferEncoding | null
  ended: boolean
  endEmitted: boolean
  flowing: boolean | null
  reading: boolean
  resumeScheduled: boolean
  highWaterMark: number
  pipes: unknown[]
}

export interface WritableState {
  getBuffer(): BufferedWrite[]
  onwrite: (error?: Error | null) => void
  writecb: ((error?: Error | null) => void) | null
  needDrain: boolean
  length: number
  highWaterMark: number
  ending: boolean
}

export interface SocketInternals {
  _handle: TcpHandle | null
  _readableState: ReadableState
  _writableState: WritableState
  _server: Server | null
  server: Server | null
  connecting: boolean
  parser?: unknown
  _httpMessage?: unknown
}

export interface ServerInternals {
  _handle: TcpHandle | null
  _connections: number
  _listen2: Listen2
  _emitCloseIfDrained(): void
  highWaterMark?: number
}

/**
 * What listen() calls once the address is resolved.
 * @note lib/net.js listenInCluster: "it is still named like this to avoid breaking code that wraps this method".
 */
export type Listen2 = (
  this: Server,
  address: string | null,
  port: number,
  addressType: number,
  backlog: number,
  fd: number | undefined,
  flags: number | undefined,
) => void

export const internals = (socket: Socket): SocketInternals => socket as unknown as SocketInternals
export const serverInternals = (server: Server): ServerInternals => server as unknown as ServerInternals

const symbols = new Map<string, symbol>()

export function symbolValue(holder: object, sample: object, description: string): unknown {
  const symbol = findSymbol(sample, description)
  return symbol && (holder as Record<symbol, unknown>)[symbol]
}

/** A handle that is made later has no owner yet to learn the symbol from. */
export function learnOwnerSymbol(handle: ServerHandle): void {
  findSymbol(handle, 'owner_symbol')
}

export function setSymbolValue(holder: object, sample: object, description: string, value: unknown): void {
  const symbol = findSymbol(sample, description)
  if (symbol === undefined) throw new Error(`Node's private symbol "${description}" was not found: this version of Node is not known`)
  ;(holder as Record<symbol, unknown>)[symbol] = value
}

export function findSymbol(sample: object, description: string): symbol | undefined {
  let symbol = symbols.get(description)
  if (symbol === undefined) {
    symbol = Object.getOwnPropertySymbols(sample).find((candidate) => candidate.description === description)
    if (symbol) symbols.set(description, symbol)
  }
  return symbol
}

export function systemError(errno: number, syscall: string): Error {
  return Object.assign(new Error(`${syscall} failed with ${errno}`), { errno, syscall })
}
