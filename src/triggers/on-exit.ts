import { constants } from 'node:os'
import type { AttachedServer } from '../attached-server.js'
import { prepareHolders } from '../holders/holders.js'
import type { Installation } from '../installation.js'
import type { OnExit } from '../options.js'
import type { Drain } from '../predecessor/drain.js'
import { drainInstead, type Left, leave, type Wishes } from '../predecessor/leave.js'
import { quiesceAll } from '../predecessor/quiesce.js'
import type { ExitWish } from './exit-wish.js'

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
  readonly #installation: Installation
  readonly #wish: ExitWish
  #removals: (() => void)[] = []
  #since: number | undefined
  #left: Left | undefined
  #drain: Drain | undefined
  #hasCrashed = false
  #watchesExit = false
  readonly #prepared = new Set<OnExit>()
  readonly #signals = new Set<string | symbol>()

  constructor(installation: Installation, wish: ExitWish) {
    this.#installation = installation
    this.#wish = wish
  }

  /** The signals are ours from now on: the one that means a restart, and where it was asked for those that mean to stop. */
  own(wish: Exclude<OnExit, 'none'>, isAsked: boolean): void {
    if (!this.#prepared.has(wish)) prepareHolders(this.#installation, wish)
    this.#prepared.add(wish)
    if (this.#removals.length === 0) this.#removals = [this.#gateEmit()]
    const { supervisor } = this.#wish
    if (supervisor) this.#own(supervisor.restartSignal)
    if (!isAsked) return
    for (const signal of SIGNALS) this.#own(signal)
    this.#watchExit()
  }

  /** Gives the signals back. */
  close(): void {
    for (const remove of this.#removals.splice(0).reverse()) remove()
  }

  // ---- what is asked for

  /** What is to go to a holder when this is asked: the connections of which servers, and which UDP sockets, which have no options of their own. */
  #wishes(asked: Asked | 'exit'): Wishes | undefined {
    const wishes = new Map<AttachedServer, Exclude<OnExit, 'none'>>()
    const { servers, lifecycle, slot, datagrams } = this.#installation
    if (!lifecycle.isOwner) return undefined // not yet, or not any more
    const isRestart = asked === this.#wish.supervisor?.restartSignal
    for (const attached of servers) {
      const wish = this.#wish.setting ?? (attached.options.onExit === 'none' && isRestart ? 'hold' : attached.options.onExit)
      // The address of a cluster worker's is the primary's: what it leaves is found by its slot, as long as the sockets are there.
      if (wish !== 'none' && (!attached.isShared || (slot && wish === 'hold'))) wishes.set(attached, wish)
    }
    const isHeld = (this.#wish.setting ?? (isRestart ? 'hold' : 'none')) === 'hold'
    const keys = new Set(isHeld ? datagrams.keys() : [])
    return wishes.size + keys.size > 0 ? { servers: wishes, datagrams: keys } : undefined
  }

  /** True: the application must not hear of it, now or at all. */
  #takes(asked: Asked): boolean {
    const { env, gate, desk } = this.#installation
    if (gate.isClosed) return false // a successor is here, and the gate has its own way with signals
    if (desk.busyWith?.hasCommitted) return this.#declines(asked) // everything is the successor's
    if (this.#since !== undefined) return env.now() - this.#since < SECOND_MS || this.#reallyStop(asked)
    const wishes = this.#wishes(asked)
    if (wishes === undefined) return this.#declines(asked)
    this.#since = env.now()
    const servers = new Set(wishes.servers.keys())
    quiesceAll(this.#installation, servers, (thaw) => {
      this.#left = leave(this.#installation, wishes)
      if (this.#left === undefined) thaw()
      this.#pass(asked, () => this.#left?.drain ?? drainInstead(this.#installation, servers))
    })
    return true
  }

  /** Whether this process could leave now because somebody asks for it by hand. */
  get isFree(): boolean {
    const { gate, lifecycle } = this.#installation
    return !gate.isClosed && this.#since === undefined && lifecycle.isOwner
  }

  /** Somebody asks for it by hand, whatever the servers ask for themselves. `undefined`: nobody took anything, and this process serves on. */
  leaveByHand(wishes: ReadonlyMap<AttachedServer, Exclude<OnExit, 'none'>>): Promise<Left | undefined> {
    this.#since = this.#installation.env.now()
    return new Promise((resolve) =>
      quiesceAll(this.#installation, new Set(wishes.keys()), (thaw) => {
        this.#left = leave(this.#installation, { servers: wishes, datagrams: new Set() })
        if (this.#left === undefined) {
          this.#since = undefined
          thaw()
        }
        resolve(this.#left)
      }),
    )
  }

  /** After that: ends this process as SIGTERM does. */
  endByHand({ drain }: Left): void {
    this.#pass('SIGTERM', () => drain)
  }

  /** Asked again: nobody is to come back for anything. The application hears of it as well. */
  #reallyStop(asked: Asked): boolean {
    this.#left?.put.discard()
    this.#drain?.endAll()
    return this.#declines(asked)
  }

  /** The application hears of it, or the system does what it does by default: our own listener keeps it from that. */
  #declines(asked: Asked): boolean {
    if (asked === 'shutdown' || listenersOf(asked).length > 0) return false
    this.#end(asked)
    return true
  }

  // ---- what the application gets

  /** Now it is the application's; where it has nothing to say, the system does what it does by default, a little later. */
  #pass(asked: Asked, drain: () => Drain): void {
    const isAlone = asked !== 'shutdown' && listenersOf(asked).length === 0
    this.#drain = isAlone ? drain() : this.#left?.drain
    if (this.#drain) this.#endWithin(DRAIN_MS, this.#drain, isAlone ? () => this.#end(asked) : undefined)
    if (isAlone) return
    if (asked === 'shutdown') return void this.#emit('message', 'shutdown', undefined)
    process.off(asked, processOnSignal) // some count who else listens, and end the process if nobody does
    this.#emit(asked, asked, constants.signals[asked])
    // A handler that was there for one signal ends this process by sending it again: nodemon's documentation and others advise it.
    if (listenersOf(asked).length > 0) process.on(asked, processOnSignal)
  }

  /** What could not be left is served until it ends, and at the end of the time ended politely. */
  #endWithin(ms: number, drain: Drain, done: (() => void) | undefined): void {
    // New connections that the primary had sent before it knew go back to it.
    const least = this.#installation.slot ? SENT_BACK_MS : 0
    const end = this.#installation.env.now() + least
    if (drain.left === 0 && least === 0) return done?.()
    const timer = setInterval(() => drain.left === 0 && this.#installation.env.now() >= end && finish(), LOOK_MS)
    const timeout = setTimeout(() => {
      drain.endAll()
      setTimeout(finish, LAST_WORDS_MS)
    }, ms)
    if (done === undefined) for (const each of [timer, timeout]) each.unref() // then it is the application that ends this process

    function finish(): void {
      clearInterval(timer)
      clearTimeout(timeout)
      done?.()
    }
  }

  #end(signal: NodeJS.Signals): void {
    this.close()
    this.#left?.put.alone?.()
    process.kill(process.pid, signal)
  }

  #emit: (event: string, ...args: unknown[]) => boolean = (...args) => Reflect.apply(process.emit, process, args)

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

  #own(signal: NodeJS.Signals): void {
    if (this.#signals.has(signal)) return
    const aside = process.rawListeners(signal) as (() => void)[]
    for (const listener of aside) process.off(signal, listener)
    process.on(signal, processOnSignal)
    for (const listener of aside) process.on(signal, listener)
    this.#signals.add(signal)
    this.#removals.push(() => {
      this.#signals.delete(signal)
      process.off(signal, processOnSignal)
    })
  }

  /** process.exit(), and a loop that has run empty. What ends by an error of its own has no state that anybody could vouch for. */
  #watchExit(): void {
    if (this.#watchesExit) return
    this.#watchesExit = true
    const processOnCrash = () => {
      this.#hasCrashed = true
    }
    const processOnExit = () => {
      this.#left?.put.alone?.()
      if (this.#since !== undefined || this.#hasCrashed || this.#installation.gate.isClosed) return
      const wishes = this.#wishes('exit')
      if (wishes) this.#left = leave(this.#installation, wishes)
    }
    process.on('uncaughtExceptionMonitor', processOnCrash)
    process.prependListener('exit', processOnExit)
    this.#removals.push(() => {
      this.#watchesExit = false
      process.off('uncaughtExceptionMonitor', processOnCrash)
      process.off('exit', processOnExit)
    })
  }
}

function listenersOf(signal: NodeJS.Signals): unknown[] {
  return process.rawListeners(signal).filter((listener) => listener !== processOnSignal)
}

/** A signal that nobody listens for would end this process before `emit` is called. */
function processOnSignal(): void {}

const SIGNALS = ['SIGINT', 'SIGTERM'] as const
const SECOND_MS = 500
/** PM2 kills 1.6 s after its signal; what is left gets its end before that. */
const DRAIN_MS = 1_100
const LAST_WORDS_MS = 250
const LOOK_MS = 10
const SENT_BACK_MS = 50
