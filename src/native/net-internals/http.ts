import type { Server as HttpServer, IncomingMessage, ServerResponse } from 'node:http'
import type { Server, Socket } from 'node:net'
import { internals, symbolValue } from './private-fields.js'

/* What an HTTP/1.1 connection shows of itself. @note lib/_http_server.js, lib/_http_common.js and src/node_http_parser.cc of Node 20 to 26. */

/** llhttp as Node wraps it. One for each connection, from its accept to its upgrade or end. */
export interface HttpParser {
  /** The last request that was parsed and whose response is not out. */
  incoming: IncomingMessage | null
  onIncoming: ((request: IncomingMessage, shouldKeepAlive: boolean) => number) | null
  _consumed: boolean
  readonly socket: Socket | null
  execute(bytes: Uint8Array): number | Error
  consume(handle: unknown): void
  unconsume(): void
  remove(): void
  close(): void
}

interface ConnectionsList {
  all(): HttpParser[]
  idle(): HttpParser[]
}

/** What Node keeps of a response that is not public. */
export type Response = ServerResponse & {
  _last: boolean
  /** writeContinue() was called. */
  readonly _sent100: boolean
  readonly outputData: readonly unknown[]
  /** Its own copy of whether end() was called. */
  readonly finished: boolean
}

export const hasHttpParser = (socket: Socket): boolean => internals(socket).parser != null
export const parserOf = (socket: Socket): HttpParser | null => (internals(socket).parser as HttpParser | null | undefined) ?? null
/** The response that an HTTP connection is busy with. */
export const httpMessageOf = (socket: Socket): Response | null => (internals(socket)._httpMessage as Response | null | undefined) ?? null
/** Whether Node has stopped reading requests, because responses are not taken. */
export const isThrottled = (socket: Socket): boolean => (socket as Socket & { _paused?: boolean })._paused === true

/** Parsers that stand between two messages, those whose response is under way included. Before 26 one that has seen no byte yet is not among them. */
export function idleParsers(server: Server): Set<HttpParser> {
  const list = symbolValue(server, server, 'http.server.connections') as ConnectionsList | undefined
  return new Set(list?.idle())
}

export function parsersOf(server: Server): HttpParser[] {
  return (symbolValue(server, server, 'http.server.connections') as ConnectionsList | undefined)?.all() ?? []
}

/** Responses under way. */
export function responsesOf(server: Server): Response[] {
  const responses = parsersOf(server).map((parser) => parser.socket && httpMessageOf(parser.socket))
  return responses.filter((response) => response != null)
}

/**
 * Tells a parser that it has had a request: else Node takes a connection that has come with nothing to read for a client that
 * connects and stays silent, and answers 408.
 */
export function primeParser(parser: HttpParser): void {
  const { onIncoming } = parser
  parser.onIncoming = () => 0
  const parsed = parser.execute(PRIMER)
  parser.onIncoming = onIncoming
  parser.incoming = null
  if (parsed instanceof Error) throw parsed
}

/** Calls back once, when the head of the next request is complete and before the application sees it; requests to upgrade are among them. */
export function onNextRequest(parser: HttpParser, callback: () => void): void {
  observerOf(parser).next.push(callback)
}

/** Is told of each message of a connection: that its first byte was parsed, and that its head is complete, before the application sees it. */
export interface ParserObserver {
  onBegin(): void
  onHead(request: IncomingMessage): void
}

export function observeParser(socket: Socket, observer: ParserObserver): void {
  const parser = parserOf(socket)
  if (parser === null) return
  observerOf(parser).observer = observer
  ;(parser as unknown as Record<number, unknown>)[onMessageBegin(parser)] = () => observer.onBegin()
}

export function stopObserving(socket: Socket): void {
  const parser = parserOf(socket)
  if (parser === null) return
  observerOf(parser).observer = undefined
  ;(parser as unknown as Record<number, unknown>)[onMessageBegin(parser)] = null
}

/** @note src/node_http_parser.cc: the index under which the parser looks for this callback; it is free to use on servers, and cleanParser() resets it. */
function onMessageBegin(parser: HttpParser): number {
  return (parser.constructor as unknown as { kOnMessageBegin: number }).kOnMessageBegin | 0
}

interface Observer {
  /** What is at `onIncoming`; Node puts another one there when it gives the parser to another connection. */
  onIncoming: NonNullable<HttpParser['onIncoming']>
  next: (() => void)[]
  observer: ParserObserver | undefined
}

const observers = new WeakMap<HttpParser, Observer>()

/** One wrapper for all that wait for a request, so that they may come and go in any order. */
function observerOf(parser: HttpParser): Observer {
  const present = observers.get(parser)
  if (present && parser.onIncoming === present.onIncoming) return present
  const original = parser.onIncoming
  const own: Observer = {
    next: [],
    observer: undefined,
    onIncoming(request, shouldKeepAlive) {
      for (const callback of own.next.splice(0)) callback()
      own.observer?.onHead(request)
      return original?.call(parser, request, shouldKeepAlive) ?? 0
    },
  }
  parser.onIncoming = own.onIncoming
  observers.set(parser, own)
  return own
}

/**
 * Lets a connection's bytes come to 'data' listeners instead of straight into its parser. Returns how to undo it, or nothing where it was so already.
 * @note lib/_http_server.js: adding a 'data' listener does it, and takes the two listeners below away.
 */
export function unconsume(socket: Socket): (() => void) | undefined {
  const parser = parserOf(socket)
  if (!parser?._consumed) return undefined
  const own = (['pause', 'resume'] as const).map(
    (event) => [event, socket.listeners(event).find(({ name }) => CONSUMERS.has(name))] as const,
  )
  const consumed = socket
  const self = internals(socket)
  // Where a slow request has stopped the handle, the stream still takes a read to be under way, and would never begin another.
  if (self._handle?.reading === false) self._readableState.reading = false
  return () => {
    const handle = internals(consumed)._handle
    // Only between two requests: what is being parsed now has to come to its end the same way.
    if (parserOf(consumed) !== parser || handle === null || parser._consumed || isThrottled(consumed) || consumed.readableLength > 0) return
    parser.consume(handle)
    parser._consumed = true
    for (const [event, listener] of own) if (listener) consumed.on(event, listener as () => void)
  }
}

const CONSUMERS = new Set(['onSocketPause', 'onSocketResume'])

/** Lets go of the parser of a connection that has moved: server.closeIdleConnections() and the timeouts of the server do not see it any more. */
export function dropParser(socket: Socket, parser: HttpParser): void {
  if (parser._consumed) parser.unconsume()
  parser._consumed = false
  parser.remove()
  internals(socket).parser = null
  setImmediate(() => parser.close()) // its stack may not have unwound
}

/** Stops reading natively, so that what Node believes about it stays true for `resumeReading`. */
export function stopReading(socket: Socket): void {
  internals(socket)._handle?.readStop()
}

/** Milliseconds that this server lets a connection stay idle, beyond what it says to the client. @note HTTP_SERVER_KEEP_ALIVE_TIMEOUT_BUFFER. */
export function keepAliveTimeoutOf(server: HttpServer & { keepAliveTimeoutBuffer?: number }): number {
  return server.keepAliveTimeout ? server.keepAliveTimeout + (server.keepAliveTimeoutBuffer ?? 1_000) : 0
}

const PRIMER = Buffer.from('GET / HTTP/1.1\r\n\r\n', 'latin1')

/** Its head says `Connection: close`, as for the last request that a connection may have: whatever Node, which has not seen the first ones, says later. */
export function sayLastRequest(response: ServerResponse): void {
  Object.defineProperty(response, 'maxRequestsOnConnectionReached', { get: () => true, set() {} })
}

/** What this library is told of the responses of a server. */
export interface ResponseWatcher {
  /** Its head is fixed; `head` is the text of it. */
  head(response: ServerResponse, head: string): void
  wrote(response: ServerResponse, chunk: unknown, encoding: unknown): void
}

/**
 * Watches the responses of every server of this class. On the prototype, once for each class, so that nothing is done for a response but a call.
 * Returns how to undo it.
 * @note lib/_http_outgoing.js: every head goes through _storeHeader, a first write() among its callers.
 */
export function watchResponses(server: Server, watcher: ResponseWatcher): () => void {
  const made = symbolValue(server, server, 'ServerResponse') as { prototype: ResponsePrototype } | undefined
  if (made === undefined || watched.has(made.prototype)) return () => {}
  const { prototype } = made
  const own = (['_storeHeader', 'write'] as const).map((name) => [name, Object.getOwnPropertyDescriptor(prototype, name)] as const)
  watched.add(prototype)
  const { _storeHeader, write } = prototype
  prototype._storeHeader = function storeHeader(firstLine, headers) {
    _storeHeader.call(this, firstLine, headers)
    watcher.head(this, this._header)
  }
  prototype.write = function (this: Response & ResponsePrototype, ...args: unknown[]) {
    const result = Reflect.apply(write, this, args) as boolean
    watcher.wrote(this, args[0], args[1])
    return result
  } as ServerResponse['write']
  return () => {
    watched.delete(prototype)
    for (const [name, descriptor] of own) {
      if (descriptor) Object.defineProperty(prototype, name, descriptor)
      else delete (prototype as Partial<ResponsePrototype>)[name]
    }
  }
}

type ResponsePrototype = ServerResponse & {
  _header: string
  _headerSent: boolean
  chunkedEncoding: boolean
  _storeHeader(firstLine: string, headers: unknown): void
}

const watched = new WeakSet<object>()

export const isChunked = (response: ServerResponse): boolean => (response as ResponsePrototype).chunkedEncoding

/** Whether all that was written to it is with its socket. @note Node 26 holds chunks back in the response until the next tick. */
export function isFlushed(response: ServerResponse): boolean {
  const { outputData } = response as Response
  return outputData.length === 0 && response.writableCorked === 0 && response.writableLength === (response.socket?.writableLength ?? -1)
}

/** The client has had its head: the next one that this response makes is not sent, and what follows is framed as it was. `made` gets it. */
export function continueResponse(response: ServerResponse, chunked: boolean, made: (head: string) => void): void {
  const own = response as ResponsePrototype
  own._storeHeader = function storeHeader(firstLine, headers) {
    Object.getPrototypeOf(this)._storeHeader.call(this, firstLine, headers)
    this._headerSent = true
    this.chunkedEncoding = chunked
    made(this._header)
  }
}
