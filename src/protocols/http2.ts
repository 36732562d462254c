import type { ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { Native } from '../native/native.js'
// Not by way of net-internals.ts, which is part of every start.
import { announceShutdown, answerOf } from '../native/net-internals/http2-shutdown.js'
import { openStreamsOf, serverOf } from '../native/net-internals.js'
import { sessionOn } from './http2-sessions.js'
import type { Protocol } from './protocol.js'
import { staying } from './staying.js'

/**
 * HTTP/2, with and without TLS. The state of a session is nghttp2's, so it drains: its streams end in this process. Its one rule: no request is lost. So the
 * client is told twice (RFC 9113 section 6.8): first that it shall open no more streams, which refuses none. Once it is known to have heard that, what it has
 * opened is here; when that has ended the client leaves, or is told for good.
 *
 *   quiet · PING ─▶ · GOAWAY(2^31 - 1) · PING ─▶ the streams end · the client closes, or GOAWAY(last stream)
 *
 * Quiet, since clients have requests of which the server cannot know: curl before 8 fails those of a connection that it has not sent yet when it
 * hears of the end in between, Node's client one that it makes in the same turn (https://github.com/nodejs/node/issues/55888), upon the end of another most often. A client that
 * is never quiet is made so: what it asks for waits until all that was answered has reached it.
 */
export function http2(native: Native | undefined): Protocol {
  const serverOnSession = (session: ServerHttp2Session) => void setImmediate(shutDown, session, native) // a handshake that was under way when draining began
  return staying({
    name: 'http2',
    reason: 'HTTP/2 connections drain',
    knows: (_socket, attached) => attached?.kind === 'http2',
    drain(socket: Socket) {
      const server = serverOf(socket)
      if (server && !server.listeners('session').includes(serverOnSession)) server.on('session', serverOnSession)
      const session = sessionOn(socket)
      if (session) void shutDown(session, native)
    },
  })
}

async function shutDown(session: ServerHttp2Session, native: Native | undefined): Promise<void> {
  for (let rounds = 0; rounds < MAX_ROUNDS && !session.destroyed; ) {
    const passed = await untilQuiet(session, MAX_ROUNDS - rounds)
    rounds += passed
    const held = new HeldStreams(session)
    const wasQuiet = rounds < MAX_ROUNDS
    if (!wasQuiet) await held.untilAlone()
    await untilHeard(session)
    if (wasQuiet && held.size > 0) {
      held.letOn()
      continue
    }
    const hasHeard = announceShutdown(session, native)
    held.letOn()
    await hasHeard
    break
  }
  // Clients leave by themselves. What this side closes while the client still says something would be a reset, and eat what is on its way.
  await untilQuiet(session, Number.POSITIVE_INFINITY, LEAVE_ROUNDS)
  if (!session.destroyed) session.close()
}

/** Waits until no stream has been open for some rounds, but no longer than `most`. Returns how many have passed. */
async function untilQuiet(session: ServerHttp2Session, most: number, rounds = QUIET_ROUNDS): Promise<number> {
  let [passed, quiet] = [0, 0]
  const sessionOnStream = () => {
    quiet = 0
  }
  session.on('stream', sessionOnStream)
  while (quiet < rounds && passed < most && !session.destroyed) {
    await delay(ROUND_MS) // not unreferenced: whoever drains has something to do
    passed++
    quiet = openStreamsOf(session) === 0 ? quiet + 1 : 0
  }
  session.off('stream', sessionOnStream)
  return passed
}

/** The client has had all that was sent, and what it has done upon it is here: the second answer is behind what it sent after the first. */
async function untilHeard(session: ServerHttp2Session): Promise<void> {
  await Promise.race([delay(PATIENCE_MS), answerOf(session).then(() => answerOf(session))])
}

/** Streams that the client opens and the application does not see yet. */
class HeldStreams {
  readonly #session: ServerHttp2Session
  readonly #own: PropertyDescriptor | undefined
  readonly #held: [stream: ServerHttp2Stream, ...rest: unknown[]][] = []

  constructor(session: ServerHttp2Session) {
    this.#session = session
    this.#own = Object.getOwnPropertyDescriptor(session, 'emit')
    const { emit } = session
    const held = this.#held
    session.emit = function holdingEmit(this: ServerHttp2Session, event: string | symbol, ...args: unknown[]) {
      if (event !== 'stream') return Reflect.apply(emit, this, [event, ...args]) as boolean
      held.push(args as [ServerHttp2Stream])
      return true
    } as typeof emit
  }

  get size(): number {
    return this.#held.length
  }

  /** Until all others have ended, but for those that take long. */
  async untilAlone(): Promise<void> {
    for (let passed = 0; passed < MAX_HELD_ROUNDS && openStreamsOf(this.#session) > this.size; passed++) await delay(ROUND_MS)
  }

  letOn(): void {
    if (this.#own) Object.defineProperty(this.#session, 'emit', this.#own)
    else delete (this.#session as Partial<ServerHttp2Session>).emit
    for (const [stream, ...rest] of this.#held)
      if (!stream.destroyed) this.#session.emit('stream', stream, ...(rest as [never, never, never]))
  }
}

const ROUND_MS = 25
/** Quiet by itself is 100 ms without a stream. It is waited for no longer than 3 s. */
const QUIET_ROUNDS = 4
const MAX_ROUNDS = 120
/** What takes longer than 1 s to be answered is not waited for while others wait. */
const MAX_HELD_ROUNDS = 40
/** A client that does not answer a PING for so long is not waited for. */
const PATIENCE_MS = 5_000
/** A client that is still here 5 s after its last stream is not going to leave. */
const LEAVE_ROUNDS = 200
