import { readFileSync } from 'node:fs'
import type { AttachedServer } from '../attached-server.js'
import { canaryOption } from '../canary.js'
import type { HandoverReport } from '../handover/report.js'
import type { Installation } from '../installation.js'
import { serverFdOf } from '../native/net-internals.js'
import { GivenDescriptors, listenerName, OURS } from './given.js'
import { type ReloadOptions, spawnSuccessor } from './spawn.js'
import { SYSTEMD_SUCCESSOR } from './started-by.js'

/**
 * This process is the main process of a systemd service with a notify socket, or the successor of one. It says when it serves, reloads by a successor that
 * becomes the main process, and keeps its listeners in the descriptor store, where there is one, so that they outlive a crash.
 *
 * @note sd_notify(3). Nothing is ever answered: what systemd has processed is known by BARRIER=1, whose descriptor it closes then.
 */
export class Systemd {
  readonly given: GivenDescriptors
  /** Whether the store takes descriptors; `undefined` until that is known. */
  hasStore: boolean | undefined
  readonly #installation: Installation
  readonly #socket: string
  readonly #stored = new Set<string>()

  constructor(installation: Installation, socket: string) {
    this.#installation = installation
    this.#socket = socket
    this.given = new GivenDescriptors(installation.env.native, installation.env.environment)
    void this.#sayServing()
    installation.onFirstListener(() => this.#reloadBySighup())
  }

  // ---- what is told

  /** What cannot be told, because systemd does not read, changes nothing here. */
  notify(lines: readonly string[], fds: readonly number[] = []): void {
    try {
      this.notifyOrThrow(lines, fds)
    } catch (error) {
      this.#installation.env.log(`systemd was not told ${lines.join(', ')}: ${(error as Error).message}`)
    }
  }

  notifyOrThrow(lines: readonly string[], fds: readonly number[] = []): void {
    this.#installation.env.native.notify(this.#socket, lines.join('\n'), Int32Array.from(fds))
  }

  /** Waits, in this thread, until systemd has processed everything that was told; false where it has not after `timeoutMs`. */
  barrierNow(timeoutMs: number): boolean {
    const { native } = this.#installation.env
    const near = this.#sendBarrier()
    try {
      return native.pollReadable(Int32Array.of(near), timeoutMs).length > 0
    } finally {
      native.closeFds(Int32Array.of(near))
    }
  }

  /** The same on the event loop, which it holds meanwhile. */
  async barrier(): Promise<void> {
    const { native } = this.#installation.env
    const near = this.#sendBarrier()
    await new Promise<void>((resolve) => {
      const watcher = native.watch(near, () => {
        watcher.close()
        native.closeFds(Int32Array.of(near))
        resolve()
      })
    })
  }

  #sendBarrier(): number {
    const { native } = this.#installation.env
    const [near, far] = native.socketPair()
    try {
      this.notifyOrThrow(['BARRIER=1'], [far])
      return near
    } catch (error) {
      native.closeFds(Int32Array.of(near))
      throw error
    } finally {
      native.closeFds(Int32Array.of(far))
    }
  }

  // ---- serving

  async #sayServing(): Promise<void> {
    const installation = this.#installation
    await installation.whenServing()
    this.notify(['READY=1', `MAINPID=${process.pid}`, `STATUS=serving, generation ${installation.generation}`])
    this.#pingWatchdog()
    for (const { name, fd } of this.given.takeUnclaimed()) {
      installation.env.log(`what systemd's store had as ${name} is not listened on any more, and is closed`)
      this.remove(name)
      installation.env.native.closeFds(Int32Array.of(fd))
    }
    await this.#findStore().catch(({ message }: Error) => installation.env.log(`systemd's descriptor store is not used: ${message}`))
  }

  /** From the process that serves alone: one that boots beside it would hide that it hangs. */
  #pingWatchdog(): void {
    const { env, lifecycle } = this.#installation
    const period = Number(env.environment['WATCHDOG_USEC']) / 1000
    if (!(period > 0) || lifecycle.retiring.aborted) return
    const ping = () => this.notify(['WATCHDOG=1'])
    ping() // the last one may have been half a period ago, the predecessor's
    const timer = setInterval(ping, period / 2).unref()
    lifecycle.retiring.addEventListener('abort', () => clearInterval(timer))
  }

  // ---- reloading

  /** An application that listens for SIGHUP itself has its own idea of it. */
  #reloadBySighup(): void {
    if (process.listenerCount('SIGHUP') > 0) return
    process.on('SIGHUP', () => {
      this.#installation.reload({}).catch((error: Error) => this.#installation.env.log(error.message))
    })
  }

  /** The successor is nobody's child, so that systemd takes it for its own: one that it does not get the end of is killed without asking first. */
  async reload(options: ReloadOptions): Promise<HandoverReport> {
    const microseconds = process.hrtime.bigint() / 1000n
    const patience = ((options.timeout ?? 60_000) + (canaryOption(options)?.watch ?? 0)) * 1000
    this.notify(['RELOADING=1', `MONOTONIC_USEC=${microseconds}`, `EXTEND_TIMEOUT_USEC=${patience}`])
    try {
      return await spawnSuccessor(this.#installation, options, { isDetached: true, environment: { [SYSTEMD_SUCCESSOR]: '1' } })
    } catch (error) {
      const [reason] = (error as Error).message.split('\n')
      this.notify(['READY=1', `STATUS=still generation ${this.#installation.generation}: ${reason}`])
      throw error
    }
  }

  /** The successor serves. This process stays until systemd knows it as the main one: before, its own end would be the end of the service. */
  handOver(successor: number): void {
    if (!isInSameGroup(successor)) return // started by hand: it is no part of the service
    this.notify([`MAINPID=${successor}`, 'READY=1'])
    this.barrier().catch((error: Error) => this.#installation.env.log(`systemd was not asked whether it knows of it: ${error.message}`))
  }

  // ---- the store

  /** FDPOLL=0, or systemd would drop a connection that its client has reset before anybody has heard of it. */
  storeOrThrow(name: string, fd: number): void {
    this.notifyOrThrow(['FDSTORE=1', `FDNAME=${name}`, 'FDPOLL=0'], [fd])
    this.#stored.add(name)
  }

  remove(name: string): void {
    this.#stored.delete(name)
    this.notify(removal(name))
  }

  removeOrThrow(name: string): void {
    this.notifyOrThrow(removal(name))
    this.#stored.delete(name)
  }

  /** One that cannot be stored now, such as by ETOOMANYREFS, may be when this process leaves. */
  storeListener(attached: AttachedServer): void {
    if (!this.hasStore) return
    try {
      this.storeListenerOrThrow(attached)
    } catch (error) {
      this.#installation.env.log(`${attached.key} is not in systemd's descriptor store: ${(error as Error).message}`)
    }
  }

  /** What is stored stays open though this process closes it: a listener that the application closes is taken out. */
  storeListenerOrThrow({ key, server }: AttachedServer): void {
    const fd = serverFdOf(server)
    if (key === '' || fd < 0 || this.#stored.has(listenerName(key))) return
    this.storeOrThrow(listenerName(key), fd)
    server.once('close', () => {
      if (this.#installation.lifecycle.isOwner) this.remove(listenerName(key))
    })
  }

  /** Since 254 the environment tells. Before, one end of a socket pair is put there: the other end hears if it is not taken. */
  async #findStore(): Promise<void> {
    const { env } = this.#installation
    if (this.places !== undefined) return this.#useStore(this.places > 0)
    const [near, far] = env.native.socketPair()
    try {
      this.notifyOrThrow(['FDSTORE=1', `FDNAME=${OURS}try`, 'FDPOLL=0'], [far])
    } catch (error) {
      env.native.closeFds(Int32Array.of(near))
      throw error
    } finally {
      env.native.closeFds(Int32Array.of(far))
    }
    await this.barrier()
    this.#useStore(env.native.pollReadable(Int32Array.of(near), 0).length === 0)
    // A version that closes what it does not take a little later is one that would have told.
    const watcher = env.native.watch(near, () => settle(false))
    const timer = setTimeout(() => settle(true), LATE_MS).unref()
    watcher.unref()
    const settle = (isTaken: boolean) => {
      clearTimeout(timer)
      watcher.close()
      env.native.closeFds(Int32Array.of(near))
      if (!isTaken && this.hasStore) this.#useStore(false)
      this.remove(`${OURS}try`)
    }
  }

  /** How many places the store has, where systemd says so. */
  get places(): number | undefined {
    const { FDSTORE } = this.#installation.env.environment
    return FDSTORE === undefined ? undefined : Number(FDSTORE) || 0
  }

  #useStore(isOn: boolean): void {
    const { servers, exit, generation, env } = this.#installation
    this.hasStore = isOn
    exit.restartsBy(isOn ? { name: 'systemd', restartSignal: 'SIGTERM' } : undefined)
    if (isOn) for (const attached of servers) this.storeListener(attached)
    else if (generation === 1) env.log(STORE_IS_OFF)
  }
}

function removal(name: string): string[] {
  return ['FDSTOREREMOVE=1', `FDNAME=${name}`]
}

/** @note cgroups(7): a service's processes are in its group. */
function isInSameGroup(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cgroup`, 'utf8') === readFileSync('/proc/self/cgroup', 'utf8')
  } catch {
    return false // it has ended, or there is no /proc
  }
}

const STORE_IS_OFF =
  "systemd's descriptor store is off or full: `systemctl reload` keeps every connection, `systemctl restart` closes them. FileDescriptorStoreMax=16 in the unit turns it on."
/** Milliseconds; the barrier does not wait for what systemd closes in the background. */
const LATE_MS = 2_000
