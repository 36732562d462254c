/**
 * How a WebSocket arrives at an application that knows nothing of this: its request is read again by the application's own server. The second
 * handshake answer is not sent; what zlib remembered is in place before the first message; what the 'connection' handler sends before it returns is
 * discarded unless it asks `isResumed`. From then on it is a WebSocket like any other.
 */
import type { Socket } from 'node:net'
import type { Env } from '../../env.js'
import type { Resumption } from '../../successor/resumption.js'
import { override } from '../override.js'
import type { Arrival } from '../protocol.js'
import { replay, swallowHead } from '../replay.js'
import type { Beginning, Dialect } from './dialect.js'
import { prepareInflating } from './inflating.js'
import { Muting } from './mute.js'
import { AgreedDeflate } from './permessage-deflate.js'
import { acknowledge, perform } from './sender.js'
import { onWebSocket } from './sight.js'
import type { WebSocketState } from './state.js'
import { deflateOf, expectClose, type PerMessageDeflate, setDeflate, setSubprotocol, type WebSocketInternals } from './ws.js'

type Task = (ws: WebSocketInternals) => void

/** WebSockets that have arrived and whose application has not had them yet; it may authenticate first. What happens to them meanwhile waits. */
export class Adoptions {
  readonly #env: Pick<Env, 'log'>
  readonly #resumption: Resumption
  readonly #muting = new Muting()
  readonly #waiting = new WeakMap<Socket, Task[]>()

  constructor(env: Pick<Env, 'log'>, resumption: Resumption) {
    this.#env = env
    this.#resumption = resumption
  }

  begin(arrival: Arrival, state: WebSocketState, dialect: Dialect | undefined): void {
    const { socket } = arrival
    this.#waiting.set(
      socket,
      state.acts.map((act) => (ws) => perform(ws, act)),
    )
    const unswallow = swallowHead(socket, (head) => {
      const [line = ''] = head.split('\r\n', 1)
      if (line.startsWith('HTTP/1.1 101 ')) countAsWritten(socket, head.length)
      else this.#refuse(socket, line)
    })
    const beginning = dialect?.begin(state.dialect?.state, state.request)
    onWebSocket(socket, (ws) => this.#meet(socket, ws, state, beginning))
    try {
      replay(arrival, beginning?.request ?? state.request, (message) => beginning?.received(message))
    } catch (error) {
      unswallow()
      this.#refuse(socket, (error as Error).message)
    }
  }

  /** In its own protocol, by a close frame after whose code a client may connect again. */
  #refuse(socket: Socket, answer: string): void {
    this.#waiting.delete(socket)
    this.#env.log(`the new version refuses a WebSocket that was open (${answer}): it is closed, and its client may connect again`)
    socket.end(SERVICE_RESTART_FRAME)
  }

  /** Where a framework has a promise between itself and the handler, as Hono has, that one has not run yet: only what is sent here is discarded then. */
  #muteMicrotasks(socket: Socket, ws: WebSocketInternals): void {
    if (this.#resumption.hasAsked(socket)) return
    const discard = (...args: unknown[]) => acknowledge(args)
    const unmute = override(ws._sender, { send: discard, ping: discard, pong: discard })
    this.#resumption.onAsk(socket, unmute)
    queueMicrotask(() => process.nextTick(unmute)) // a tick from within a microtask is behind all of these
  }

  /** From here it is the application's, and what has waited for that happens. */
  #settle(socket: Socket, ws: WebSocketInternals): void {
    holdUntilHeard(socket, ws)
    const tasks = this.#waiting.get(socket) ?? []
    this.#waiting.delete(socket)
    for (const task of tasks) task(ws)
  }

  /** Does something to the WebSocket on `socket`, once its application has it. */
  whenAdopted(socket: Socket, task: Task): boolean {
    const tasks = this.#waiting.get(socket)
    tasks?.push(task)
    return tasks !== undefined
  }

  /** Within the application's handleUpgrade: the WebSocket is made, and nobody has it yet. */
  #meet(socket: Socket, ws: WebSocketInternals, state: WebSocketState, beginning: Beginning | undefined): void {
    agree(ws, state)
    const settled = beginning?.meet(ws)
    const unmute = () => this.#muting.end(ws._sender)
    const isAlone = this.#resumption.onPassEnd(unmute)
    if (!this.#resumption.hasAsked(socket)) this.#muting.begin(ws._sender, isAlone)
    this.#resumption.onAsk(socket, unmute)
    const { closing } = state
    if (closing) ws.once('open', () => expectClose(ws, closing.left)) // said before the application has it
    const handlerOnReturn = once(() => {
      if (!isAlone) unmute()
      if (settled === undefined) {
        if (ws.listenerCount('message') === 0) this.#muteMicrotasks(socket, ws)
        return this.#settle(socket, ws)
      }
      socket.pause()
      void settled.then(() => {
        socket.resume()
        this.#settle(socket, ws)
      })
    })
    // Whichever is first: ticks are where it was called by an event, before anything is read; microtasks where it was called by one.
    process.nextTick(handlerOnReturn)
    queueMicrotask(handlerOnReturn)
  }
}

/** What was agreed on with the client wins over what this server would agree on now. */
function agree(ws: WebSocketInternals, { deflate, subprotocol }: WebSocketState): void {
  setSubprotocol(ws, subprotocol)
  const present = deflateOf(ws)
  if (deflate === null) return present && setDeflate(ws, undefined)
  const agreed: PerMessageDeflate = present ?? new AgreedDeflate(deflate.params, 0)
  agreed.params = deflate.params
  prepareInflating(agreed, deflate.window)
  if (!present) setDeflate(ws, agreed)
}

/** A handler that awaits something before it listens would lose the messages that are here already. */
function holdUntilHeard(socket: Socket, ws: WebSocketInternals): void {
  if (ws.listenerCount('message') > 0 || socket.isPaused()) return
  socket.pause()
  const resume = () => {
    clearTimeout(limit)
    ws.off('newListener', webSocketOnNewListener)
    socket.resume()
  }
  const webSocketOnNewListener = (event: string | symbol) => {
    if (event === 'message') resume()
  }
  const limit = setTimeout(resume, UNHEARD_MS) // it only sends
  ws.on('newListener', webSocketOnNewListener)
}

/** engine.io ends an upgraded socket on which nobody has written anything within a second. @note engine.io/build/server.js `destroyUpgrade`. */
function countAsWritten(socket: Socket, bytes: number): void {
  const prototype = Object.getPrototypeOf(socket) as object
  Object.defineProperty(socket, 'bytesWritten', {
    get: () => bytes + (Reflect.get(prototype, 'bytesWritten', socket) as number),
    configurable: true,
  })
}

function once(act: () => void): () => void {
  let isDone = false
  return () => {
    if (isDone) return
    isDone = true
    act()
  }
}

/** @note RFC 6455, 5.5.1; 1012 "Service Restart" of its registry. */
const SERVICE_RESTART_FRAME = Uint8Array.of(0x88, 0x02, 0x03, 0xf4)
/** Longest that a message waits for somebody who listens, ms. */
const UNHEARD_MS = 1_000
