import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { dropParser, hasHttpParser, httpMessageOf, isChunked, isFlushed, parserOf, type Response } from '../native/net-internals.js'
import { hasAsked } from './asked.js'
import { continued, goOn } from './continued-response.js'
import { begunElsewhere, encodedStreams, isEventStream, streams } from './noted-streams.js'
import { fedByPipe, obstacleOfSocket } from './plain-tcp.js'
import { type Arrival, DISCARD, type LateAct, type LateSink, type Left, type Obstacle, type Protocol, restoreTimeout } from './protocol.js'
import { replay } from './replay.js'
import { isRequestHead, type RequestHead, requestOf, withHeader } from './request-head.js'

/**
 * A response that never ends: server-sent events, or any other of which the application says that it can go on. The request is read once more in the
 * successor, with the id of the last event, and what its handler writes goes on in the same body. Its one rule: it moves between two events.
 */
export const sse: Protocol = {
  name: 'sse',
  kind: 'sse',
  knows(socket, attached) {
    const response = attached?.kind === 'http' && hasHttpParser(socket) ? httpMessageOf(socket) : null
    return response !== null && !response.finished && (streams.has(response) || encodedStreams.has(response) || hasAsked(response.req))
  },
  obstacleOf,
  watch,
  drain() {}, // it ends with its response, or at the end of the grace period
  hasAsked: (socket) => hasAsked((httpMessageOf(socket) as Response).req),
  snapshot: (socket) => ({ state: stateOf(httpMessageOf(socket) as Response) }),
  leave: (socket, late) => leave(socket, httpMessageOf(socket) as Response, late),
  refuse(state, attached) {
    if (!isState(state)) return 'the state of its response is malformed'
    return attached?.kind === 'http' ? undefined : 'its server does not speak HTTP/1.1 here'
  },
  adopt,
  late(socket, act) {
    const response = httpMessageOf(socket)
    if (response === null) return
    const going = continued(response)
    if (going) going.late(act)
    else applyLate(response, act)
  },
}

/** Plain data. */
interface SseState {
  request: RequestHead
  chunked: boolean
  /** The status of the answer, and whether it is made of events: another one in the successor does not go on with this body. */
  status: number
  events: boolean
}

function isState(state: unknown): state is SseState {
  const { request, chunked, status, events } = (state ?? {}) as Partial<SseState>
  return isRequestHead(request) && typeof chunked === 'boolean' && Number.isSafeInteger(status) && typeof events === 'boolean'
}

// ---- the predecessor

function obstacleOf(socket: Socket): Obstacle | undefined {
  const obstacle = obstacleOfSocket(socket)
  if (obstacle) return obstacle
  if (socket.writableEnded || socket.readableEnded) return { reason: 'it is ending', passes: false }
  const response = httpMessageOf(socket) as Response
  if (encodedStreams.has(response)) return { reason: 'it is compressed: where its events end is not known', passes: false }
  const { req } = response
  if (!response.headersSent) return { reason: 'a request is being served', passes: true }
  if (!req.complete || parserOf(socket)?.incoming !== req) return { reason: 'a request is behind an event stream', passes: true }
  if (req.method !== 'GET' || requestOf(req) === undefined) return { reason: 'its request cannot be read twice', passes: true }
  if (fedByPipe(response)) return { reason: 'a stream of this process is piped into it', passes: true }
  if (!isFlushed(response) || streams.get(response)?.events.isBetweenEvents === false)
    return { reason: 'half an event is written', passes: true }
  return hasAsked(req) ? undefined : streams.get(response)?.beginning.obstacle()
}

function watch(socket: Socket, onPassed: () => void): () => void {
  const response = httpMessageOf(socket) as Response
  const later = () => setImmediate(onPassed)
  const stream = streams.get(response)
  if (stream) stream.onBoundary = onPassed
  response.on('close', later).on('unpipe', later)
  const older = setTimeout(onPassed, stream?.beginning.obstacle()?.left ?? 0).unref()
  return () => {
    clearTimeout(older)
    if (stream) stream.onBoundary = undefined
    response.off('close', later).off('unpipe', later)
  }
}

function stateOf(response: Response): SseState {
  const request = requestOf(response.req) as RequestHead
  const lastId = streams.get(response)?.events.lastId
  return {
    request: lastId === undefined ? request : withHeader(request, 'Last-Event-ID', lastId === '' ? undefined : lastId),
    chunked: isChunked(response),
    status: response.statusCode,
    events: streams.has(response),
  }
}

/** What the application still writes to its response is an event of the application, not bytes of a connection. */
function leave(socket: Socket, response: Response, late: LateSink): Left {
  let hasEnded = false
  const write = (chunk: unknown, encoding?: unknown, callback?: unknown) => {
    if (!hasEnded) late.late('write', toBytes(chunk, encoding))
    acknowledge(encoding, callback)
    return true
  }
  const end = (chunk?: unknown, encoding?: unknown, callback?: unknown) => {
    const data = chunk == null || typeof chunk === 'function' ? new Uint8Array() : toBytes(chunk, encoding)
    if (!hasEnded) late.late('end', data)
    hasEnded = true
    acknowledge(chunk, encoding, callback)
    return response
  }
  const destroy = () => {
    if (!hasEnded) late.late('destroy', new Uint8Array())
    hasEnded = true
    return response
  }
  const moved = { write, end, destroy, cork() {}, uncork() {}, flushHeaders() {} }
  const before = Object.keys(moved).map((name) => [name, Object.getOwnPropertyDescriptor(response, name)] as const)
  Object.assign(response, moved)
  return {
    socketSink: DISCARD,
    takeBack() {
      for (const [name, descriptor] of before) {
        if (descriptor) Object.defineProperty(response, name, descriptor)
        else delete (response as unknown as Record<string, unknown>)[name]
      }
    },
    letGo() {
      const parser = parserOf(socket)
      if (parser) dropParser(socket, parser)
    },
  }
}

function acknowledge(...args: unknown[]): void {
  const callback = args.find((argument) => typeof argument === 'function') as (() => void) | undefined
  if (callback) process.nextTick(callback, null)
}

function toBytes(chunk: unknown, encoding: unknown): Uint8Array {
  if (typeof chunk === 'string') return Buffer.from(chunk, typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8')
  return chunk instanceof Uint8Array ? chunk : Buffer.from(String(chunk))
}

// ---- the successor

function adopt(arrival: Arrival, state: unknown): void {
  const { request, chunked, status, events } = state as SseState
  replay(arrival, request, (_request, response) => {
    if (response === undefined) throw new Error('the server takes the request of an event stream for an upgrade')
    begunElsewhere.add(response)
    goOn(response, { chunked, fits: ({ statusCode }, head) => statusCode === status && (!events || isEventStream(head)) })
  })
  restoreTimeout(arrival)
}

function applyLate(response: ServerResponse, { kind, data }: LateAct): void {
  if (kind === 'destroy') response.destroy()
  else if (response.writableEnded) return
  else if (kind === 'end') response.end(data)
  else if (data.length > 0) response.write(data)
}
