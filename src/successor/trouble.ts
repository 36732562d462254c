import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Inheritance } from './inheritance.js'

/**
 * What goes wrong in this process while it is on trial, as far as that can be seen from outside of the application: handlers that threw for connections that
 * came, exceptions that nobody caught (the process lives only if it listens for them), HTTP answers that say that the server has failed.
 */
export class Trouble {
  #first: string | undefined
  #closed = false
  #answers = 0
  #failures = 0
  readonly #sockets: ReadonlySet<Socket>
  readonly #processOnUncaught = (error: unknown) => this.#note(`an exception was not caught: ${textOf(error)}`)
  readonly #serverOnResponse = (message: unknown) => this.#count(message as { response: ServerResponse; socket: Socket })

  constructor(inheritance: Inheritance) {
    this.#first = inheritance.thrown
    this.#sockets = new Set([...inheritance.sockets].map(([, socket]) => socket))
    process.on('uncaughtExceptionMonitor', this.#processOnUncaught)
    subscribe(RESPONSES, this.#serverOnResponse)
  }

  /** What went wrong first. */
  get first(): string | undefined {
    return this.#first
  }

  get closed(): boolean {
    return this.#closed
  }

  close(): void {
    this.#closed = true
    process.off('uncaughtExceptionMonitor', this.#processOnUncaught)
    unsubscribe(RESPONSES, this.#serverOnResponse)
  }

  /** The health check's own answers are not counted: they are looked at elsewhere. */
  #count({ response, socket }: { response: ServerResponse; socket: Socket }): void {
    if (!this.#sockets.has(socket)) return
    this.#answers++
    if (response.statusCode >= 500) this.#failures++
    if (this.#failures >= FEWEST_FAILURES && 2 * this.#failures > this.#answers)
      this.#note(`${this.#failures} of ${this.#answers} requests were answered with 500 or more`)
  }

  #note(what: string): void {
    this.#first ??= what
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** @note lib/_http_server.js resOnFinish(), since Node 16.17. */
const RESPONSES = 'http.server.response.finish'
/** One client may ask for the one thing that fails. */
const FEWEST_FAILURES = 3
