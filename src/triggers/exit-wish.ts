import type { AttachedServer } from '../attached-server.js'
import { halves } from '../halves.js'
import type { Installation } from '../installation.js'
import { type OnExit, onExitSetting } from '../options.js'
import type { ExitTrigger } from './on-exit.js'
import { findSupervisor, type Supervisor } from './supervisor.js'

/** Whether anybody asks for something to become of the connections at exit. Until then what does it is not needed, and nothing is installed. */
export class ExitWish {
  readonly setting: OnExit | undefined
  /** Whether somebody has asked for a holder. */
  isHold = false
  #supervisor: Supervisor | undefined
  readonly #installation: Installation
  #trigger: ExitTrigger | undefined

  constructor(installation: Installation) {
    this.#installation = installation
    this.setting = onExitSetting(installation.env.environment)
    this.#supervisor = findSupervisor(installation.env.environment)
  }

  /** Who starts this process again and again. */
  get supervisor(): Supervisor | undefined {
    return this.#supervisor
  }

  /** Whoever has started this process starts it again, and has its own way to keep what is held meanwhile. */
  restartsBy(supervisor: Supervisor | undefined): void {
    this.#supervisor = supervisor
    this.watch()
  }

  /** For a server that has come, or for all that will come. */
  watch(attached?: AttachedServer): void {
    const asked = this.setting ?? attached?.options.onExit ?? 'none'
    const isRestarted = this.setting === undefined && this.#supervisor !== undefined
    const wish = asked === 'none' && isRestarted ? 'hold' : asked
    if (wish === 'hold') this.isHold = true
    if (wish !== 'none') this.trigger.own(wish, asked !== 'none')
  }

  get trigger(): ExitTrigger {
    this.#trigger ??= new (halves().ExitTrigger)(this.#installation, this)
    return this.#trigger
  }
}
