/**
 * What is still sent on a WebSocket that has moved, or is about to, as what the application meant: it goes to the successor as that. Its own methods
 * are put on one sender, and taken away again to undo it.
 */
import { override } from '../override.js'
import { type Callback, deflateOf, READY_STATE, type SendOptions, setReadyState, type WebSocketInternals } from './ws.js'

/** What an application does to a WebSocket, as plain data. */
export type Act =
  | { readonly act: 'send'; readonly data: Uint8Array; readonly binary: boolean; readonly compress: boolean; readonly fin: boolean }
  | { readonly act: 'ping' | 'pong'; readonly data: Uint8Array }
  | { readonly act: 'close'; readonly code: number | undefined; readonly data: Uint8Array }
  | { readonly act: 'terminate' }

/**
 * Gives everything that the application does from now on to `take`. Returns how to undo that. While something is being compressed its frames have to
 * go out, and only callers such as engine.io make frames themselves, and they only where nothing is compressed: `frames` says whether those are taken.
 */
export function divert(ws: WebSocketInternals, take: (act: Act) => void, frames = deflateOf(ws) === undefined): () => void {
  const sendFrame = (list: Uint8Array[], callback?: Callback) => {
    take(frameAsAct(Buffer.concat(list)))
    acknowledge([callback])
  }
  const undoSender = override(ws._sender, {
    ...(frames && { sendFrame }),
    send(data: unknown, { binary, compress, fin }: SendOptions, callback?: Callback) {
      const act = { act: 'send', binary: binary === true, compress: compress !== false, fin: fin !== false } as const
      withBytes(data, (bytes) => take({ ...act, data: bytes }))
      acknowledge([callback])
    },
    ping(data: unknown, _mask: boolean, callback?: Callback) {
      withBytes(data, (bytes) => take({ act: 'ping', data: bytes }))
      acknowledge([callback])
    },
    pong(data: unknown, _mask: boolean, callback?: Callback) {
      withBytes(data, (bytes) => take({ act: 'pong', data: bytes }))
      acknowledge([callback])
    },
  })
  let hasClosed = false
  const close = () => {
    hasClosed ||= ws.readyState === READY_STATE.open
    setReadyState(ws, READY_STATE.closing)
  }
  const undoWebSocket = override(ws, {
    close(code?: number, data?: string | Uint8Array) {
      if (ws.readyState !== READY_STATE.open) return
      close()
      take({ act: 'close', code, data: bytesOf(data ?? '') ?? NOTHING })
    },
    terminate() {
      close()
      take({ act: 'terminate' })
    },
  })
  return () => {
    undoSender()
    undoWebSocket()
    if (hasClosed) setReadyState(ws, READY_STATE.open) // whoever has taken it does it
  }
}

/** Does to a WebSocket what an application has done to it elsewhere. */
export function perform(ws: WebSocketInternals, act: Act): void {
  if (act.act === 'terminate') return ws.terminate()
  if (ws.readyState !== READY_STATE.open) return // it has been closed meanwhile, as here it could have been as well
  if (act.act === 'close') ws.close(act.code, act.data)
  else if (act.act === 'send') ws.send(act.data, { binary: act.binary, compress: act.compress, fin: act.fin })
  else ws[act.act](act.data, false)
}

/** Callers such as engine.io make the frame of a broadcast themselves, once: short, never compressed, never masked. @note RFC 6455, 5.2. */
function frameAsAct(frame: Buffer): Act {
  const opcode = (frame[0] as number) & 0x0f
  const length = (frame[1] as number) & 0x7f
  const data = frame.subarray(length === 127 ? 10 : length === 126 ? 4 : 2)
  if (opcode === 8) return { act: 'close', code: data.length < 2 ? undefined : data.readUInt16BE(0), data: data.subarray(2) }
  if (opcode > 8) return { act: opcode === 9 ? 'ping' : 'pong', data }
  return { act: 'send', data, binary: opcode === 2, compress: false, fin: ((frame[0] as number) & 0x80) !== 0 }
}

/** A Blob takes a while to be read; what is sent meanwhile goes first, which only an application that sends both can tell. */
function withBytes(data: unknown, use: (bytes: Uint8Array) => void): void {
  const bytes = bytesOf(data)
  if (bytes) use(bytes)
  else void (data as Blob).arrayBuffer().then((buffer) => use(new Uint8Array(buffer)))
}

function bytesOf(data: unknown): Uint8Array | undefined {
  if (typeof data === 'string') return Buffer.from(data)
  if (data instanceof ArrayBuffer) return new Uint8Array(data)
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  return undefined
}

export function acknowledge(args: readonly unknown[]): void {
  const callback = args.find((candidate) => typeof candidate === 'function')
  if (callback) process.nextTick(callback as Callback)
}

const NOTHING = new Uint8Array()
