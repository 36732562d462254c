import { once } from 'node:events'
import type { ToSupervisor } from '../triggers/supervision.js'
import { type Ending, Generation, type Program } from './generation.js'

export interface SupervisorOptions {
  /** Starts the program again when it has ended with an error, later each time. Else this process ends as the program has. */
  readonly restart: boolean
  /** A crash waits for the next change of a file. */
  readonly isWatching: boolean
  /** Milliseconds that a new version may take until it serves. */
  readonly timeout: number
  /** Without the addon no two generations can serve side by side. */
  readonly overlap: boolean
  log(line: string): void
}

/**
 * Keeps one program running, and replaces it with overlap: the new version is started beside the old one, takes over from it and only then the old one leaves.
 * Its one rule: the old one is not touched before the new one serves, whatever happens to the new one.
 */
export class Supervisor {
  readonly #program: Program
  readonly #options: SupervisorOptions
  readonly #generations = new Set<Generation>()
  /** The one that serves. */
  #current: Generation
  #next: Generation | undefined
  /** A reload was asked for while another was under way. */
  #again = false
  #isStopping = false
  #crashes = 0
  #finish!: (ending: Ending) => void
  /** Resolves when there is nothing left to supervise, with how the program ended. */
  readonly finished: Promise<Ending> = new Promise((resolve) => {
    this.#finish = resolve
  })

  constructor(program: Program, options: SupervisorOptions) {
    this.#program = program
    this.#options = options
    this.#current = this.#launch('')
  }

  /** The pids that are this process's own to wait for. */
  get pids(): ReadonlySet<number> {
    return new Set([...this.#generations].map(({ pid }) => pid))
  }

  /** Starts the new version beside the running one. While another one starts, once more after it. */
  reload(token = '', timeout = this.#options.timeout): void {
    if (this.#isStopping) return
    if (this.#current.ending) return this.#startAnew()
    if (!this.#options.overlap) return void this.#replaceInTurn()
    if (this.#next) {
      if (token) this.#current.tell({ is: 'failed', token, reason: 'another one is being started already', output: '' })
      else this.#again = true
      return
    }
    void this.#replace(token, timeout)
  }

  /** Passes a signal that means "leave" on to every process of the program; this one ends when they have. */
  stop(signal: NodeJS.Signals, isDelivered: boolean): void {
    const isFirst = !this.#isStopping
    this.#isStopping = true
    this.#again = false
    if (isFirst && this.#current.ending) return this.#finish(this.#current.ending)
    if (!isDelivered) this.signal(signal)
  }

  signal(signal: NodeJS.Signals): void {
    for (const generation of this.#generations) generation.kill(signal)
  }

  // ---- one generation

  #launch(token: string): Generation {
    const generation: Generation = new Generation(this.#program, token, (message) => this.#generationOnMessage(generation, message))
    this.#generations.add(generation)
    void generation.ended.then((ending) => {
      this.#generations.delete(generation)
      this.#generationOnEnd(generation, ending)
    })
    return generation
  }

  #generationOnMessage(generation: Generation, message: ToSupervisor): void {
    if (message.is === 'reload') this.reload(message.token, message.timeout)
    if (message.is === 'serving' && generation === this.#current) this.#servesFor(generation)
    // Others wait for these: see #replace.
    generation.child.emit(`told ${message.is}`, message)
  }

  /** A program that has served for a while starts from the shortest pause after its next crash. */
  #servesFor(generation: Generation): void {
    setTimeout(() => {
      if (!generation.ending) this.#crashes = 0
    }, STEADY_MS).unref()
  }

  #generationOnEnd(generation: Generation, ending: Ending): void {
    if (generation !== this.#current || this.#next) return // whoever waits for the next one decides
    if (this.#isStopping) return void this.#finishWhenAllHaveEnded(ending)
    this.#currentOnEnd(ending)
  }

  #currentOnEnd(ending: Ending): void {
    if (this.#isStopping || ending.code === 0) return void this.#finishWhenAllHaveEnded(ending)
    if (this.#options.isWatching)
      return this.#options.log(`the program ended with ${nameOf(ending)}: it is started again at the next change`)
    if (!this.#options.restart) return void this.#finishWhenAllHaveEnded(ending)
    const pause = Math.min(FIRST_PAUSE_MS * 2 ** this.#crashes++, LONGEST_PAUSE_MS)
    this.#options.log(`the program ended with ${nameOf(ending)}: it is started again in ${pause / 1000} s`)
    setTimeout(() => {
      if (!this.#isStopping && this.#current.ending) this.#startAnew()
    }, pause)
  }

  #startAnew(): void {
    this.#current = this.#launch('')
  }

  /** Older ones may still be draining. */
  async #finishWhenAllHaveEnded(ending: Ending): Promise<void> {
    await Promise.all([...this.#generations].map(({ ended }) => ended))
    this.#finish(ending)
  }

  // ---- replacing

  async #replace(token: string, timeout: number): Promise<void> {
    const old = this.#current
    const next = this.#launch(token)
    this.#next = next
    const failed = await this.#whyNotServing(old, next, timeout)
    this.#next = undefined
    if (failed === undefined) this.#current = next
    else await this.#say(old, next, token, failed)
    if (this.#current.ending) this.#currentOnEnd(this.#current.ending)
    if (this.#again && !this.#isStopping) {
      this.#again = false
      this.reload()
    }
  }

  /** Resolves when the next one serves, or with the reason why it will not. */
  async #whyNotServing(old: Generation, next: Generation, timeout: number): Promise<string | undefined> {
    const serving = once(next.child, 'told serving') as Promise<[ToSupervisor & { is: 'serving' }]>
    let isOver = false
    const late = async (): Promise<string> => {
      for (;;) {
        await new Promise((resolve) => setTimeout(resolve, timeout).unref())
        if (isOver || !(await this.#hasCommitted(old))) return `it did not serve within ${timeout} ms`
      }
    }
    const outcome = await Promise.race([
      serving.then(([message]) => message),
      next.ended.then((ending) => `it ended with ${nameOf(ending)} before it served`),
      late(),
    ])
    isOver = true
    if (typeof outcome === 'string') return outcome
    this.#options.log(`process ${next.pid} serves (generation ${outcome.generation})`)
    // It listens elsewhere, or nowhere, and nobody else tells the old one to leave.
    if (!outcome.took) old.kill('SIGTERM')
    return undefined
  }

  /** Asked before the next one is ended: from its commit on connections are its own, and its death would be theirs. Without an answer it is left alone. */
  async #hasCommitted(old: Generation): Promise<boolean> {
    if (old.ending) return false
    old.tell({ is: 'give-up' })
    const answer = once(old.child, 'told given-up') as Promise<[ToSupervisor & { is: 'given-up' }]>
    return Promise.race([answer.then(([{ committed }]) => committed), old.ended.then(() => false)])
  }

  async #say(old: Generation, next: Generation, token: string, reason: string): Promise<void> {
    const output = await next.end()
    if (this.#isStopping) return
    this.#options.log(`the new version did not take over: ${reason}. Process ${old.pid} goes on serving.`)
    if (token) old.tell({ is: 'failed', token, reason, output })
  }

  /** Where the addon is missing: one after the other, as a restart without this library. */
  async #replaceInTurn(): Promise<void> {
    const old = this.#current
    if (this.#next) return
    this.#next = old // its end is waited for here
    old.kill('SIGTERM')
    await old.ended
    this.#next = undefined
    if (this.#isStopping) this.#finish(old.ending as Ending)
    else this.#startAnew()
  }
}

export function nameOf({ code, signal }: Ending): string {
  return signal ?? `exit code ${code}`
}

const FIRST_PAUSE_MS = 100
const LONGEST_PAUSE_MS = 30_000
const STEADY_MS = 10_000
