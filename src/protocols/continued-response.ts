import type { ServerResponse } from 'node:http'
import { continueResponse } from '../native/net-internals.js'
import { onceAsked, onceLookedAt } from './asked.js'
import { asLatin1 } from './event-stream.js'
import type { LateAct } from './protocol.js'

/**
 * A response that goes on with a body that another process has begun. Its head stays here. What its handler writes by the end of the turn in which the
 * head is made would repeat what the client has had (a greeting, the present state), and is discarded: unless the application has asked. Where it has
 * looked at Last-Event-ID, events with an id are what it knows to be missing; a log of all headers looks at it as well, so those without stay discarded.
 * What comes with end() is sent: there was none before.
 */
export function goOn(response: ServerResponse, body: Body): void {
  const going = new ContinuedResponse(response, body)
  all.set(response, going)
  onceAsked(response.req, () => going.speak())
  onceLookedAt(response.req, () => going.goOnBehindLast())
}

/** The body that was begun. */
interface Body {
  readonly chunked: boolean
  /** Whether what follows this head may go on with it. */
  fits(response: ServerResponse, head: string): boolean
}

/** Of a response that goes on here; `undefined` for any other. */
export function continued(response: ServerResponse): ContinuedResponse | undefined {
  return all.get(response)
}

const all = new WeakMap<ServerResponse, ContinuedResponse>()

class ContinuedResponse {
  readonly #response: ServerResponse
  readonly #body: Body
  #hasGivenUp = false
  #isQuiet = true
  /** What was written to be sent if it has an id: in latin1, the event that is not complete. */
  #events: string | undefined
  /** What the predecessor's application wrote before there was a head here. */
  #waiting: LateAct[] | undefined = []

  constructor(response: ServerResponse, body: Body) {
    this.#response = response
    this.#body = body
    continueResponse(response, body.chunked, (head) => this.#responseOnHead(head))
    const { write } = response
    const self = this
    response.write = function quietWrite(this: ServerResponse, ...args: unknown[]) {
      if (!self.#isQuiet) return Reflect.apply(write, this, args) as boolean
      if (!this.headersSent) this.writeHead(this.statusCode)
      const missing = self.#missing(args[0], args[1])
      if (missing !== '' && !self.#hasGivenUp) Reflect.apply(write, this, [missing, 'latin1'])
      acknowledge(args)
      return true
    } as ServerResponse['write']
    // A second interim answer in the middle of a body would be a part of it.
    Object.assign(response, { writeContinue() {}, writeProcessing() {}, writeEarlyHints() {} })
  }

  /** The application knows what the client has had: what it writes counts from here. */
  speak(): void {
    this.#isQuiet = false
    const begun = this.#events
    this.#events = undefined
    if (begun) this.#response.write(begun, 'latin1')
  }

  goOnBehindLast(): void {
    if (this.#isQuiet) this.#events ??= ''
  }

  /** Whole events with an id, of those that are discarded otherwise. */
  #missing(chunk: unknown, encoding: unknown): string {
    if (this.#events === undefined) return ''
    const events = (this.#events + asLatin1(chunk, encoding)).split(/(?<=\r\n\r\n|\n\n|\r\r)/)
    this.#events = /(\r\n\r\n|\n\n|\r\r)$/.test(events.at(-1) as string) ? '' : (events.pop() as string)
    return events.filter((event) => /^id:/m.test(event)).join('')
  }

  late(act: LateAct): void {
    if (this.#waiting) this.#waiting.push(act)
    else this.#apply(act)
  }

  #responseOnHead(head: string): void {
    if (!this.#body.fits(this.#response, head)) return this.#giveUp()
    setImmediate(() => {
      this.speak()
      const waiting = this.#waiting ?? []
      this.#waiting = undefined
      for (const act of waiting) this.#apply(act)
    })
  }

  /** The new version answers otherwise, an error most often, which is no part of this body: it ends, and the client asks again by itself. */
  #giveUp(): void {
    this.#hasGivenUp = true
    const { socket } = this.#response
    socket?.end(this.#body.chunked ? '0\r\n\r\n' : '')
    Object.assign(this.#response, { write: () => true, end: () => this.#response })
  }

  #apply({ kind, data }: LateAct): void {
    if (kind === 'destroy') this.#response.destroy()
    else if (this.#response.writableEnded) return
    else if (kind === 'end') this.#response.end(data)
    else if (data.length > 0) this.#response.write(data)
  }
}

function acknowledge(args: unknown[]): void {
  const callback = args.find((argument) => typeof argument === 'function') as (() => void) | undefined
  if (callback) process.nextTick(callback, null)
}
