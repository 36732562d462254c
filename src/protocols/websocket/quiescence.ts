import type { Obstacle } from '../protocol.js'
import { isInflaterKnown } from './inflating.js'
import { deflateOf, READY_STATE, RECEIVER, type WebSocketInternals } from './ws.js'

/** `undefined`: where it stands can be told. */
export function obstacleOfWebSocket(ws: WebSocketInternals): Obstacle | undefined {
  const deflate = deflateOf(ws)
  if (ws.readyState !== READY_STATE.open && !isWaitingForClose(ws)) return { reason: 'its close handshake is ending', passes: false }
  if (endsByItself(ws)) return { reason: 'a long message is under way', passes: true }
  if (deflate && !isInflaterKnown(deflate, false)) return { reason: 'what its zlib stream remembers is not known', passes: false }
  if (!isQuiescent(ws)) return { reason: 'a message is being compressed or decompressed', passes: true }
  return undefined
}

/** Whether zlib, a deferred event or a Blob has nothing of this WebSocket in hand. */
export function isQuiescent({ _receiver, _sender }: WebSocketInternals): boolean {
  const isReceiving = _receiver._state > RECEIVER.data || _receiver.writableLength > 0
  const isSending = (_sender._state ?? 0) !== 0 || _sender._deflating === true || _sender._queue.length > 0
  return !isReceiving && !isSending
}

/** In the middle of a message that only this process can complete: the application sends it in fragments, or it came in more than is kept. */
export function endsByItself(ws: WebSocketInternals): boolean {
  const deflate = deflateOf(ws)
  const isReceiving = ws._receiver._fragmented !== 0 && ws._receiver._compressed
  return !ws._sender._firstFragment || (isReceiving && deflate !== undefined && !isInflaterKnown(deflate, true))
}

/** This side has said that it closes, and the other has not answered yet. */
function isWaitingForClose({ readyState, _closeFrameReceived, _receiver, _socket }: WebSocketInternals): boolean {
  const isBroken = _receiver.errored != null || _socket?.writableEnded !== false
  return readyState === READY_STATE.closing && !_closeFrameReceived && !isBroken
}
