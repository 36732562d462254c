import type { ChildProcess } from 'node:child_process'
import { closeSync, writeSync } from 'node:fs'
import type { Server } from 'node:net'
import type { Readable } from 'node:stream'
import type { AttachedServer } from './attached-server.js'
import type { Env } from './env.js'
import { TsunagiError } from './errors.js'
import { bootDone } from './handover/boot-done.js'
import { type HandoverReport, publishReport, reportLine } from './handover/report.js'
import { Lifecycle } from './lifecycle.js'
import { type ListenerKeeper, startAccepting, wrapListen } from './listener.js'
import { type Listen2, serverFdOf } from './native/net-internals.js'
import { gracePeriod } from './options.js'
import { Drain, stopListening } from './predecessor/drain.js'
import { ConnectionFinder } from './predecessor/enumerate.js'
import { RepeatingTimers } from './predecessor/repeating-timers.js'
import { Protocols } from './protocols/protocols.js'
import { EarlyReload } from './triggers/early-reload.js'
import { SignalGate } from './triggers/signals.js'
import { FIRST_GIVEN_FD, failure, NOT_SERVING, type ReloadOptions, startNewVersion } from './triggers/spawn.js'
import { reportBoot } from './triggers/spawned.js'
import { leaveAfterStart } from './triggers/start.js'
import { readStartCommand } from './triggers/start-command.js'

/**
 * Stands in for an Installation where the addon is missing. Node alone can give descriptors to a process that it starts: a reload starts the new
 * version with the listeners, which adopts those that it listens on and says on a pipe that it is ready; then this process stops accepting and
 * drains. Its one rule: connections stay where they are. A version that is started by hand has nobody to ask, and gets EADDRINUSE as ever.
 */
export class PlainInstallation implements ListenerKeeper {
  readonly env: Pick<Env, 'log' | 'environment'>
  readonly servers = new Set<AttachedServer>()
  readonly lifecycle = new Lifecycle()
  readonly protocols = new Protocols()
  readonly gate = new SignalGate()
  /** Connections end with this process. */
  readonly exit = undefined
  readonly datagrams = undefined
  readonly grace: number
  registered = false
  readonly #attached = new WeakMap<Server, AttachedServer>()
  readonly #finder = new ConnectionFinder()
  readonly #timers = new RepeatingTimers()
  readonly #start
  /** Listeners of the process that has started this one, by address key, until a server claims them. */
  readonly #inherited: Map<string, number>
  readonly #claimed: AttachedServer[] = []
  #whenListening: (() => void)[] | undefined = []
  readonly #earlyReload = new EarlyReload(this)
  #isReloading = false
  #saidSurvive = false

  constructor(env: Pick<Env, 'log' | 'environment'>) {
    this.env = env
    this.grace = gracePeriod(env.environment)
    this.#inherited = takeGiven(env.environment)
    this.#start = readStartCommand(env.environment)
    reportBoot(env, this.lifecycle.owned)
    if (this.#inherited.size === 0) this.lifecycle.own()
  }

  /** Takes a server in. Returns how to take it out again. */
  add(attached: AttachedServer, listen2?: Listen2): () => void {
    this.servers.add(attached)
    this.#attached.set(attached.server, attached)
    const unwrap = wrapListen(attached, this, listen2)
    return () => {
      unwrap()
      this.servers.delete(attached)
      this.#attached.delete(attached.server)
    }
  }

  attachedTo(server: Server): AttachedServer | undefined {
    return this.#attached.get(server)
  }

  /** Calls back once this process has a listener that can be handed over. */
  onFirstListener(callback: () => void): void {
    if (this.#whenListening) this.#whenListening.push(callback)
    else callback()
  }

  // ---- ListenerKeeper

  /** What waits for an address are connections. */
  waits(): undefined {}

  listening(attached: AttachedServer): void {
    if (attached.options.survive && !this.#saidSurvive) {
      this.#saidSurvive = true
      this.env.log(
        'a crash of this process ends its connections, although survival is asked for: that needs the addon (ERR_TSUNAGI_SURVIVE)',
      )
    }
    if (attached.key === '' || attached.isShared) return // a cluster worker's: the primary has the address
    const callbacks = this.#whenListening ?? []
    this.#whenListening = undefined
    for (const callback of callbacks) callback()
  }

  inheritSlot(): undefined {}

  inherit(attached: AttachedServer): number | undefined {
    const fd = this.#inherited.get(attached.key)
    if (fd === undefined) return undefined
    this.#inherited.delete(attached.key)
    this.#claimed.push(attached)
    this.listening(attached)
    if (this.#claimed.length === 1) void this.#takeOver()
    return fd
  }

  // ---- successor

  async #takeOver(): Promise<void> {
    const keepAlive = setTimeout(() => {}, 2 ** 31 - 1) // a listener that does not accept yet does not hold the loop
    await this.lifecycle.whenReady(bootDone, () => false)
    clearTimeout(keepAlive)
    for (const fd of this.#inherited.values()) closeSync(fd) // nobody would accept there
    this.#inherited.clear()
    for (const attached of this.#claimed) startAccepting(undefined, attached)
    this.lifecycle.own()
    sayReady()
  }

  // ---- predecessor

  async reload(options: ReloadOptions): Promise<HandoverReport> {
    if (this.#whenListening === undefined) await this.#earlyReload.untilServing(options.timeout)
    if (!this.lifecycle.isOwner) throw failure(NOT_SERVING)
    if (options.canary !== undefined) throw failure('connections cannot move without the native addon, a canary least of all')
    if (this.#isReloading) throw new TsunagiError('ERR_TSUNAGI_BUSY', 'A reload is under way already.', { serving: true })
    const listeners = [...this.servers].filter(({ key, isShared, server }) => key !== '' && !isShared && serverFdOf(server) >= 0)
    const onPath = listeners.find(({ path }) => path !== '')
    // libuv unlinks the path when this process closes its end, and only the addon can keep it from that.
    if (onPath) throw failure(`the listener on ${onPath.path} cannot be handed over without the native addon`)
    this.#isReloading = true
    this.gate.close()
    try {
      const report = await startNewVersion(this.#start, options, {
        environment: { [GIVEN]: JSON.stringify(listeners.map(({ key }) => key)) },
        stdio: ['pipe', ...listeners.map(({ server }) => serverFdOf(server))],
        whenServing: (child, resolve) => readyPipe(child).once('data', () => resolve(this.#retire(listeners, child))),
        hasCommitted: () => false,
      })
      return report
    } catch (error) {
      this.gate.open()
      throw error
    } finally {
      this.#isReloading = false
    }
  }

  /** The new version accepts: this process only finishes what it has begun. */
  #retire(listeners: AttachedServer[], child: ChildProcess): HandoverReport {
    readyPipe(child).destroy()
    const sockets = [...this.#finder.find(this.servers).values()].flat()
    const report = reportOf(listeners, child, sockets.length)
    stopListening(listeners)
    this.#timers.mute()
    const drain = new Drain(
      this,
      () => false,
      () => {
        for (const { server } of this.servers) server.emit('drained')
      },
    )
    drain.add(sockets)
    leaveAfterStart(this, drain, () => {})
    this.env.log(reportLine(report))
    publishReport(report)
    for (const { server } of this.servers) server.emit('handover', report)
    this.lifecycle.retire()
    return report
  }
}

/** Keys of the listeners that this process was started with; their descriptors follow that of the pipe, in this order. */
const GIVEN = 'TSUNAGI_LISTENERS'

function takeGiven(environment: NodeJS.ProcessEnv): Map<string, number> {
  const given = environment[GIVEN]
  delete environment[GIVEN] // it is ours alone, not our children's
  const keys = given === undefined ? [] : (JSON.parse(given) as string[])
  return new Map(keys.map((key, i) => [key, FIRST_GIVEN_FD + 1 + i]))
}

function readyPipe(child: ChildProcess): Readable {
  return child.stdio[FIRST_GIVEN_FD] as Readable
}

function sayReady(): void {
  try {
    writeSync(FIRST_GIVEN_FD, 'ready')
  } catch {
    // Whoever has started this process is gone: there is nobody to relieve.
  }
  closeSync(FIRST_GIVEN_FD)
}

function reportOf(listeners: AttachedServer[], child: ChildProcess, connections: number): HandoverReport {
  return {
    role: 'predecessor',
    generation: 0,
    predecessor: process.pid,
    successor: child.pid as number,
    listeners: listeners.map(({ key }) => key),
    moved: 0,
    movedBy: [],
    stayed: connections > 0 ? [{ reason: 'the native addon is missing', connections }] : [],
    later: [],
    unreadBytes: 0,
    unsentBytes: 0,
    carriedBytes: 0,
    unclaimedState: [],
    phases: {},
  }
}
