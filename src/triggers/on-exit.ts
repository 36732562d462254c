import { constants } from 'node:os'
import type { AttachedServer } from '../attached-server.js'
import { sayIfNobodyTakes } from '../holders/holders.js'
import type { Installation } from '../installation.js'
import { type OnExit, onExitSetting } from '../options.js'
import { type Left, leave } from '../predecessor/leave.js'
import { quiesceAll } from '../predecessor/quiesce.js'
import { findSupervisor, type Supervisor } from './supervisor.js'

type Asked = NodeJS.Signals | 'shutdown'

/**
 * This process is told to leave, and no new version is there. From the first server on that asks for `onExit`, the signals that mean so come here first:
 * the connections go to a holder, then the application's own handlers run as ever, and find every connection silent. Where there are none, what cannot
 * be left gets a moment to end, and then the signal does what it does without this library.
 *
 * One Ctrl-C may come twice within milliseconds (the terminal and npm), nodemon's SIGUSR2 as well: the second one is the first. One that comes
 * SECOND_MS later means it: the holder lets go of everything at once.
 */
export class ExitTrigger {
  #supervisor: Supervisor | undefined
  readonly #installation: Installation
  readonly #setting: OnExit | undefined
  #removals: (() => void)[] = []
  #since: number | undefined
  #left: Left | undefined
  #hasCrashed = false

  constructor(installation: Installation) {
    this.#installation = installation
    this.#setting = onExitSetting(installation.env.environment)
    this.#supervisor = findSupervisor(installation.env.environment)
  }

  /** For a server that has come: the signals are ours from now on if it, or the setting, asks for it. */
  watch(attached?: AttachedServer): void {
    if (this.#removals.length > 0) return
    const isAsked = this.#setting === undefined ? attached !== undefined && attached.options.onExit !== 'none' : this.#setting !== 'none'
    const isRestarted = this.#setting === undefined && this.#supervisor !== undefined
    if (!isAsked && !isRestarted) return
    const signals = isAsked ? SIGNALS : []
    const restart = this.#supervisor ? [this.#supervisor.restartSignal] : []
    this.#removals = [this.#gateEmit(), ...new Set([...signals, ...restart])].map((each) =>
      typeof each === 'string' ? this.#own(each) : each,
    )
    if (!isAsked) return
    this.#removals.push(this.#watchExit())
    sayIfNobodyTakes(this.#installation, this.#setting ?? attached?.options.onExit ?? 'none')
  }

  /** Whoever has started this process starts it again, and has its own way to keep what is held meanwhile. */
  restartsBy(supervisor: Supervisor): void {
    this.#supervisor = supervisor
    this.watch()
  }

  /** Gives the signals back. */
  close(): void {
    for (const remove of this.#removals.splice(0).reverse()) remove()
  }

  // ---- what is asked for

  /** Servers whose connections are to go to a holder when this is asked. */
  #wishes(asked: Asked | 'exit'): Map<AttachedServer, Exclude<OnExit, 'none'>> {
    const wishes = new Map<AttachedServer, Exclude<OnExit, 'none'>>()
    const { servers, lifecycle } = this.#installation
    if (!lifecycle.isOwner) return wishes // not yet, or not any more
    const isRestart = asked === this.#supervisor?.restartSignal
    for (const attached of servers) {
      if (attached.isShared) continue // a cluster worker's: nobody would ask for its address, which is the primary's
      const wish = this.#setting ?? (attached.options.onExit === 'none' && isRestart ? 'hold' : attached.options.onExit)
      if (wish !== 'none') wishes.set(attached, wish)
    }
    return wishes
  }

  /** True: the application must not hear of it, now or at all. */
  #takes(asked: Asked): boolean {
    const { env, gate } = this.#installation
    if (gate.isClosed) return false // a successor is here, and the gate has its own way with signals
    if (this.#since !== undefined) {
      if (env.now() - this.#since < SECOND_MS) return true
      this.#left?.put.discard()
      if (this.#left && this.#left.drain.left > 0) this.#left.drain.endAll()
      return false
    }
    const wishes = this.#wishes(asked)
    if (wishes.size === 0) return false
    this.#since = env.now()
    quiesceAll(this.#installation, new Set(wishes.keys()), (thaw) => {
      this.#left = leave(this.#installation, wishes)
      if (this.#left === undefined) thaw()
      this.#pass(asked)
    })
    return true
  }

  // ---- what the application gets

  /** Now it is the application's. */
  #pass(asked: Asked): void {
    if (asked === 'shutdown') return void this.#emit('message', 'shutdown', undefined)
    const listeners = process.rawListeners(asked).filter((listener) => listener !== processOnSignal)
    if (listeners.length === 0) return this.#endAfterDrain(asked)
    process.off(asked, processOnSignal) // some count who else listens, and end the process if nobody does
    this.#emit(asked, asked, constants.signals[asked])
    process.on(asked, processOnSignal)
  }

  #endAfterDrain(signal: NodeJS.Signals): void {
    const drain = this.#left?.drain
    const end = () => {
      this.close()
      this.#left?.put.alone?.()
      process.kill(process.pid, signal) // nobody else listens: what the system does by default
    }
    if (drain === undefined || drain.left === 0) return end()
    const timer = setInterval(() => {
      if (drain.left === 0) finish()
    }, 10)
    const timeout = setTimeout(() => {
      drain.endAll()
      setTimeout(finish, LAST_WORDS_MS)
    }, DRAIN_MS)

    function finish(): void {
      clearInterval(timer)
      clearTimeout(timeout)
      end()
    }
  }

  #emit: (event: string, ...args: unknown[]) => boolean = () => false

  /**
   * @note lib/internal/process/signal.js: a signal calls the `process.emit` of the time at which its first listener was added. So `#own`, after this, makes
   * its own listener the first one.
   */
  #gateEmit(): () => void {
    const { emit } = process
    const trigger = this
    this.#emit = (...args) => Reflect.apply(emit, process, args) as boolean
    const gatedEmit = function gatedEmit(this: NodeJS.Process, event: string | symbol, ...args: unknown[]) {
      const asked =
        event === 'message' && args[0] === 'shutdown' ? 'shutdown' : trigger.#signals.has(event) ? (event as NodeJS.Signals) : undefined
      if (asked !== undefined && trigger.#takes(asked)) return true
      return Reflect.apply(emit, this, [event, ...args])
    } as typeof process.emit
    process.emit = gatedEmit
    return () => {
      if (process.emit === gatedEmit) process.emit = emit // else somebody has wrapped it: it lets everything pass, once no signal is ours
    }
  }

  readonly #signals = new Set<string | symbol>()

  #own(signal: NodeJS.Signals): () => void {
    const aside = process.rawListeners(signal) as (() => void)[]
    for (const listener of aside) process.off(signal, listener)
    process.on(signal, processOnSignal)
    for (const listener of aside) process.on(signal, listener)
    this.#signals.add(signal)
    return () => {
      this.#signals.delete(signal)
      process.off(signal, processOnSignal)
    }
  }

  /** process.exit(), and a loop that has run empty. What ends by an error of its own has no state that anybody could vouch for. */
  #watchExit(): () => void {
    const processOnCrash = () => {
      this.#hasCrashed = true
    }
    const processOnExit = () => {
      this.#left?.put.alone?.()
      if (this.#since !== undefined || this.#hasCrashed || this.#installation.gate.isClosed) return
      const wishes = this.#wishes('exit')
      if (wishes.size > 0) this.#left = leave(this.#installation, wishes)
    }
    process.on('uncaughtExceptionMonitor', processOnCrash)
    process.prependListener('exit', processOnExit)
    return () => {
      process.off('uncaughtExceptionMonitor', processOnCrash)
      process.off('exit', processOnExit)
    }
  }
}

/** A signal that nobody listens for would end this process before `emit` is called. */
function processOnSignal(): void {}

const SIGNALS = ['SIGINT', 'SIGTERM'] as const
const SECOND_MS = 500
/** PM2 kills 1.6 s after its signal; what is left gets its end before that. */
const DRAIN_MS = 1_100
const LAST_WORDS_MS = 250
