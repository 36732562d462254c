/**
 * One WebSocket as plain data. What it was told before it was one (the request to upgrade) stands for all that the application made of it: the
 * successor's application is told the same. What cannot come from there is here. Whatever was received in part goes along as bytes.
 */
import { isRequestHead, type RequestHead } from '../request-head.js'
import type { Inflated } from './inflating.js'
import type { Act } from './sender.js'
import type { DeflateParameters } from './ws.js'

export interface WebSocketState {
  readonly request: RequestHead
  readonly subprotocol: string
  /** What was agreed on at the handshake: it outlives the options of the server. */
  readonly deflate: DeflateState | null
  /** This side has sent its close frame and waits for the other's; milliseconds that it still waits. */
  readonly closing: { readonly left: number } | null
  /** What is spoken on it by a library that knows its clients otherwise than by their request. */
  readonly dialect: { readonly name: string; readonly state: unknown } | null
  /** What the application has sent while the connection was about to move. */
  readonly acts: readonly Act[]
}

export interface DeflateState {
  readonly params: DeflateParameters
  readonly window: Inflated['window']
}

/** `state` as another process has sent it, checked as far as the restore relies on it; `undefined` where it is something else. */
export function readState(state: unknown): WebSocketState | undefined {
  if (!isObject(state)) return undefined
  const { request, subprotocol, deflate, closing, dialect, acts } = state
  const isDeflate =
    deflate === null ||
    (isObject(deflate) && isObject(deflate['params']) && isBytes(deflate['window']) && deflate['window'].length <= MAX_WINDOW)
  const isClosing = closing === null || (isObject(closing) && typeof closing['left'] === 'number')
  const isDialect = dialect === null || (isObject(dialect) && typeof dialect['name'] === 'string')
  const areActs = Array.isArray(acts) && acts.every((act) => isObject(act) && typeof act['act'] === 'string')
  const isWhole = isRequestHead(request) && typeof subprotocol === 'string' && isDeflate && isClosing && isDialect && areActs
  return isWhole ? (state as unknown as WebSocketState) : undefined
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isBytes(value: unknown): value is Uint8Array {
  return value instanceof Uint8Array
}

const MAX_WINDOW = 32 * 1024
