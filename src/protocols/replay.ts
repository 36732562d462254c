import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Server, Socket } from 'node:net'
import { markReplayed } from './asked.js'
import type { Arrival } from './protocol.js'
import type { RequestHead } from './request-head.js'

/**
 * A conversation that began with a request, and whose answer never ends (a WebSocket, an event stream), needs the application's own objects in the
 * successor. So the request is read there once more: the application routes, authenticates and answers as it did, and sees the request that it knows.
 *
 *   predecessor: requestOf(request) ─── record ───▶ successor: replay(arrival, request, …), and the head that it answers is swallowed
 *
 * Nothing here looks below the stream: the socket may be one under TLS.
 */

/**
 * Puts an arrived connection into its server and has the request read there, all of it before this returns. `received` is called when the application
 * is about to get it, with the response if it gets one (then it is not asked to upgrade); what that throws keeps the request from the application.
 * Throws when the server takes no request from it.
 */
export function replay(
  { socket, server, connect }: Arrival,
  request: RequestHead,
  received: (request: IncomingMessage, response: ServerResponse | undefined) => void,
): void {
  if (server === undefined) throw new Error('a request is replayed to a server')
  connect()
  let wasReceived = false
  const giveBack = interceptEmit(server, (event, args) => {
    const [message, second] = args as [IncomingMessage, ServerResponse | Socket]
    if (!REQUEST_EVENTS.has(event) || message.socket !== socket) return
    wasReceived = true
    markReplayed(message)
    received(message, 'writeHead' in second ? second : undefined)
  })
  try {
    socket.emit('data', bytesOf(request)) // the parser's listener; what the client has sent since stays in the stream behind it
  } finally {
    giveBack()
  }
  if (!wasReceived) throw new Error('the server did not take the request that its predecessor had answered')
}

/** @note lib/_http_server.js: what a server says when a head is complete. */
const REQUEST_EVENTS = new Set<string | symbol>(['request', 'upgrade', 'connect', 'checkContinue', 'checkExpectation'])

function interceptEmit(server: Server, before: (event: string | symbol, args: unknown[]) => void): () => void {
  const own = Object.getOwnPropertyDescriptor(server, 'emit')
  const { emit } = server
  server.emit = function replayingEmit(this: Server, event: string | symbol, ...args: unknown[]) {
    before(event, args)
    return Reflect.apply(emit, this, [event, ...args])
  } as typeof emit
  return () => {
    if (own) Object.defineProperty(server, 'emit', own)
    else delete (server as Partial<Server>).emit
  }
}

function bytesOf({ method, url, version, headers }: RequestHead): Buffer {
  const lines = [`${method} ${url} HTTP/${version}`]
  for (let i = 0; i < headers.length; i += 2) lines.push(`${headers[i]}: ${headers[i + 1]}`)
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1')
}

// ---- the answer

/**
 * Keeps the next response head that is written to this socket from the client, which has had one. `answered` gets it, now or much later; it decides what
 * becomes of the connection, and what follows the head is written as ever if that is still possible. Call it before `replay`. Returns how to undo it.
 */
export function swallowHead(socket: Socket, answered: (head: string) => void): () => void {
  const swallowing = socket as Socket & { [HEAD]?: Swallowing | undefined }
  const original = Object.getPrototypeOf(socket) as object
  const stop = () => {
    if (swallowing[HEAD] === undefined) return
    swallowing[HEAD] = undefined
    Object.setPrototypeOf(socket, original)
  }
  swallowing[HEAD] = {
    seen: '',
    done(head) {
      stop()
      answered(head)
    },
  }
  Object.setPrototypeOf(socket, swallowingPrototype(original))
  return stop
}

interface Swallowing {
  seen: string
  done(head: string): void
}

const HEAD = Symbol('tsunagi.head')

/** Another prototype for a while, rather than properties of its own that are deleted again: the socket will be in use for long. */
function swallowingPrototype(original: object): object {
  let prototype = prototypes.get(original)
  if (prototype === undefined) {
    prototype = Object.create(original, {
      write: { value: swallowingWrite, configurable: true, writable: true },
      end: { value: swallowingEnd, configurable: true, writable: true },
    }) as object
    prototypes.set(original, prototype)
  }
  return prototype
}

const prototypes = new WeakMap<object, object>()

function swallowingWrite(this: Socket & { [HEAD]?: Swallowing }, chunk: unknown, encoding?: unknown, callback?: unknown): boolean {
  const state = this[HEAD] as Swallowing
  state.seen += toText(chunk, encoding)
  const end = state.seen.indexOf('\r\n\r\n')
  const done = typeof encoding === 'function' ? encoding : callback
  if (end >= 0) {
    const rest = state.seen.slice(end + 4)
    state.done(state.seen.slice(0, end))
    if (rest !== '' && this.writable) return this.write(rest, 'latin1', done as () => void)
  }
  if (typeof done === 'function') process.nextTick(done as () => void, null)
  return true
}

/** An answer that refuses is often written with the end. */
function swallowingEnd(this: Socket & { [HEAD]?: Swallowing }, chunk?: unknown, encoding?: unknown, callback?: unknown): Socket {
  if (typeof chunk !== 'function' && chunk != null) this.write(chunk as string, encoding as BufferEncoding)
  const state = this[HEAD]
  if (state) state.done(state.seen) // there was no whole head
  const done = [chunk, encoding, callback].find((argument) => typeof argument === 'function') as (() => void) | undefined
  return this.writableEnded ? this : this.end(done)
}

function toText(chunk: unknown, encoding: unknown): string {
  if (typeof chunk === 'string')
    return Buffer.from(chunk, typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8').toString('latin1')
  return Buffer.from(chunk as Uint8Array).toString('latin1')
}
