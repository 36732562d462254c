import { Socket } from 'node:net'
import { canaryOption } from '../canary.js'
import { TsunagiError } from '../errors.js'
import type { HandoverReport } from '../handover/report.js'
import type { Installation } from '../installation.js'
import { failure, newToken, type ReloadOptions, whyNoReload } from './spawn.js'
import { Supervision, type ToSupervised, type ToSupervisor } from './supervision.js'

/** This process was started by `tsunagi run`: it says when it serves, and leaves reloads to its supervisor. */
export class Supervised {
  readonly #installation: Installation
  readonly #line: Supervision<ToSupervisor, ToSupervised>
  #isAlone = false
  /** Of the reload that is under way. */
  #failed: (reason: Error) => void = () => {}
  /** What its new version's trial has come to. */
  #trial: Error | undefined

  constructor(installation: Installation, fd: number) {
    this.#installation = installation
    this.#line = new Supervision(
      new Socket({ fd }),
      (message) => this.#lineOnMessage(message),
      () => {
        this.#isAlone = true
        this.#failed(failure('`tsunagi run` has ended'))
      },
    )
    this.#sayServing().catch(() => {}) // what the main module throws is Node's to tell
  }

  /** Whether the supervisor has died: reloads are this process's own then. */
  get isAlone(): boolean {
    return this.#isAlone
  }

  /** Asks the supervisor to start the new version, which will find this process. */
  async reload({ timeout = 60_000, ...options }: ReloadOptions): Promise<HandoverReport> {
    const canary = canaryOption(options)
    const why = whyNoReload(this.#installation)
    if (why) throw why
    const { desk } = this.#installation
    const token = newToken()
    try {
      return await new Promise<HandoverReport>((succeeded, failed) => {
        this.#failed = failed
        this.#trial = undefined
        // The supervisor says why, and what the new version has printed; how a trial has gone it does not know.
        const noteTrial = (error: Error) => {
          if ((error as TsunagiError).code === 'ERR_TSUNAGI_CANARY') this.#trial = error
        }
        desk.watch({ token, canary, succeeded, failed: noteTrial })
        this.#line.tell({ is: 'reload', token, timeout })
      })
    } finally {
      desk.watch(undefined)
    }
  }

  async #sayServing(): Promise<void> {
    const installation = this.#installation
    await installation.whenServing()
    this.#line.tell({ is: 'serving', generation: installation.generation, took: installation.generation > 1 })
  }

  #lineOnMessage(message: ToSupervised): void {
    const { desk } = this.#installation
    if (message.is === 'give-up') {
      const committed = desk.busyWith?.hasCommitted === true
      if (!committed) desk.busyWith?.giveUp(failure('it did not serve in time'))
      this.#line.tell({ is: 'given-up', committed })
    } else if (desk.expects(message.token)) {
      const reason = `The new version did not take over: ${message.reason}. This process goes on serving.`
      const error = this.#trial ?? new TsunagiError('ERR_TSUNAGI_RELOAD', reason, { serving: true })
      this.#failed(Object.assign(error, { output: message.output }))
    }
  }
}
