import type { Server as HttpServer, IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { accountOf } from '../handover/account.js'
import {
  dropParser,
  type HttpParser,
  hasHttpParser,
  httpMessageOf,
  idleParsers,
  isThrottled,
  keepAliveTimeoutOf,
  onNextRequest,
  parserOf,
  primeParser,
  type Response,
  resumeReading,
  resumeTimeout,
  serverOf,
  stopReading,
} from '../native/net-internals.js'
import { hasContinued, isUnanswered, leaveUnanswered, swallowContinue } from './half-upload.js'
import { Heads, type Upload } from './http-heads.js'
import { requestLimit } from './http-limit.js'
import { obstacleOfSocket } from './plain-tcp.js'
import { type Arrival, DISCARD, leaveNothing, type Obstacle, type Protocol } from './protocol.js'

/**
 * HTTP/1.1. Its boundary is between two requests: then nothing of the application is bound to the connection, so it moves without being asked for.
 * A request in flight is served on here. When its response is out this process stops reading, so that what the client sends next waits in the
 * kernel for the successor, and the connection moves alone. Its one rule: no request is ever in two processes, or in none; but for one that is half
 * received where the application has said that it may begin again (half-upload.ts).
 */
export const http: Protocol = {
  name: 'http',
  kind: undefined,
  arm: ({ kind, server, options }) => (kind === 'http' ? heads.arm(server, options.replay) : () => {}),
  knows: (socket, attached) => attached?.kind === 'http' && hasHttpParser(socket),
  obstacleOf,
  watch: park,
  drain,
  snapshot: (socket) => ({ state: stateOf(socket), held: heldBy(socket) ?? [] }),
  leave(socket) {
    // Where the application has answered, only the server's own timers and its shutdown still reach for the socket.
    const left = httpMessageOf(socket)?.finished === false ? leaveUnanswered(socket) : leaveNothing(DISCARD)
    return {
      ...left,
      letGo() {
        left.letGo()
        const parser = parserOf(socket)
        if (parser) dropParser(socket, parser)
      },
    }
  },
  refuse(state, attached) {
    if (!isHttpState(state)) return 'its HTTP state is malformed'
    return attached?.kind === 'http' ? undefined : 'its server does not speak HTTP/1.1 here'
  },
  adopt(arrival, state) {
    arrival.connect()
    const parser = parserOf(arrival.socket)
    if (parser === null) throw new Error('the server has not taken the connection')
    goOn(arrival, parser, state as HttpState)
  },
  late() {}, // what `leave` lets through is nothing
}

const heads = new Heads()

/** Plain data. */
interface HttpState {
  /** It has had a request: what comes next may take as long as the keep-alive timeout says. */
  seasoned: boolean
  /** Its last response was the last one: after the unsent bytes it ends. */
  last: boolean
  /** Requests that it has had, where the server limits them. */
  requests: number
  /** Of a request that begins again the client has had a 100 Continue. */
  continued?: boolean
}

function isHttpState(state: unknown): state is HttpState {
  const { seasoned, last, requests } = (state ?? {}) as Partial<HttpState>
  return typeof seasoned === 'boolean' && typeof last === 'boolean' && Number.isSafeInteger(requests)
}

// ---- the predecessor

function obstacleOf(socket: Socket): Obstacle | undefined {
  const obstacle = obstacleOfSocket(socket)
  if (obstacle) return obstacle
  if (socket.writableEnded || socket.readableEnded) return { reason: 'it is ending', passes: false }
  const parser = parserOf(socket) as HttpParser
  const response = httpMessageOf(socket)
  if (response && !isProduced(response, parser) && !uploadOf(socket)) return { reason: 'a request is being served', passes: true }
  if (isThrottled(socket)) return { reason: 'its requests wait for responses to be taken', passes: true }
  if (!isFresh(socket) && !isBetweenRequests(socket, parser) && !heldBy(socket))
    return { reason: 'half a request has been read', passes: true }
  return undefined
}

/** All that is left of it is bytes for a client that reads slowly, and nothing is queued behind it. */
function isProduced(response: Response, parser: HttpParser): boolean {
  const { req } = response as Response & { req: IncomingMessage }
  return response.finished && response.outputData.length === 0 && req.complete && (parser.incoming === null || parser.incoming === req)
}

/** The request that can begin again in the successor. */
function uploadOf(socket: Socket): Upload | undefined {
  const upload = heads.uploadOn(socket)
  return upload && isUnanswered(socket, upload) ? upload : undefined
}

/** What the successor reads once more. */
function heldBy(socket: Socket): Uint8Array[] | undefined {
  return heads.heldBy(socket) ?? uploadOf(socket)?.pieces
}

function isFresh(socket: Socket): boolean {
  return accountOf(socket).consumed === 0 && !seasonedElsewhere.has(socket)
}

/** Connections that have had a request in another process: the kernel's count of a restored one begins at 0. */
const seasonedElsewhere = new WeakSet<Socket>()

/** Asking each of thousands by itself would make a list of all of them each time; within one synchronous block none of them changes. */
let known: { readonly server: unknown; readonly idle: ReadonlySet<HttpParser> } | undefined

function isBetweenRequests(socket: Socket, parser: HttpParser): boolean {
  const server = serverOf(socket) as HttpServer
  if (known?.server !== server) {
    known = { server, idle: idleParsers(server) }
    queueMicrotask(() => {
      known = undefined
    })
  }
  return known.idle.has(parser)
}

function stateOf(socket: Socket): HttpState {
  const response = httpMessageOf(socket)
  const again = uploadOf(socket) !== undefined
  return {
    seasoned: !isFresh(socket) && !heldBy(socket),
    last: response?._last === true,
    requests: requestLimit.requestsOf(socket) - (again && requestLimit.requestsOf(socket) > 0 ? 1 : 0),
    ...(again && response && hasContinued(response) && { continued: true }),
  }
}

/** Waits for the boundary, and stops reading there: `drain` is the inverse. */
function park(socket: Socket, onPassed: () => void): () => void {
  let isWatched = true
  let keepAlive: NodeJS.Timeout | undefined
  const look = () => {
    if (socket.destroyed || !isWatched) return
    const parser = parserOf(socket)
    if (parser === null) return onPassed() // it was upgraded
    const obstacle = obstacleOf(socket)
    // A request that can begin again may be answered before the connection's turn comes: its body is read until then.
    if (obstacle === undefined && !uploadOf(socket)) {
      stopReading(socket)
      // What the client sends in time may have to wait here for longer than that: the successor's own timeout begins when it can read it.
      if (!parked.has(socket)) parked.set(socket, socket.timeout ?? 0)
      socket.setTimeout(0)
      keepAlive ??= setTimeout(() => {}, 2 ** 31 - 1) // a handle that does not read does not hold the loop
      return onPassed()
    }
    if (obstacle?.passes === false) return onPassed()
    const response = httpMessageOf(socket)
    // Not in the handlers of its end: what they write belongs before the move.
    if (response) response.once('close', () => setImmediate(look))
    else onNextRequest(parser, () => setImmediate(look))
  }
  look()
  return () => {
    isWatched = false
    clearTimeout(keepAlive)
  }
}

/** Connections that are not read from until they move, with the timeout that they had, ms. */
const parked = new WeakMap<Socket, number>()

/**
 * Its response says `Connection: close`, the one under way or the next. An idle connection ends by its keep-alive timeout otherwise: if it were ended now,
 * that could meet a request that is on its way.
 */
function drain(socket: Socket): void {
  resumeReading(socket)
  const timeout = parked.get(socket)
  if (timeout) socket.setTimeout(timeout)
  parked.delete(socket)
  const parser = parserOf(socket)
  if (parser === null) return
  const response = httpMessageOf(socket)
  if (response) response.shouldKeepAlive = false
  const server = serverOf(socket) as HttpServer
  if (!server.listeners('request').includes(serverOnRequest)) server.prependListener('request', serverOnRequest)
  draining.add(socket)
}

const draining = new WeakSet<Socket>()

function serverOnRequest(this: HttpServer, { socket }: IncomingMessage, response: ServerResponse): void {
  if (draining.has(socket)) response.shouldKeepAlive = false
}

// ---- the successor

function goOn({ socket, server, timeout }: Arrival, parser: HttpParser, { seasoned, last, requests, continued }: HttpState): void {
  if (continued) swallowContinue(socket)
  if (requests > 0) requestLimit.goOn(socket, requests)
  if (last) return void socket.end()
  if (!seasoned) return restart(socket, timeout)
  seasonedElsewhere.add(socket)
  primeParser(parser)
  // As after a response of this process: the keep-alive timeout runs from when the client has it until the next request comes.
  const idle = keepAliveTimeoutOf(server as HttpServer)
  let isIdle = true
  onNextRequest(parser, () => {
    isIdle = false
    socket.setTimeout((server as HttpServer).timeout || 0)
  })
  if (socket.writableLength > 0) socket.write('', () => isIdle && socket.setTimeout(idle))
  else if (timeout) resumeTimeout(socket, timeout.full, timeout.remaining)
  else socket.setTimeout(idle)
}

/** It has not had a request: what `server.timeout` has left. */
function restart(socket: Socket, timeout: Arrival['timeout']): void {
  if (timeout && socket.timeout === timeout.full) resumeTimeout(socket, timeout.full, timeout.remaining)
}
