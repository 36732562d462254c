import { createRequire } from 'node:module'

/**
 * A cluster worker's place among its siblings. The primary keeps the listeners, so that a worker has no address to be found at: while a reload
 * replaces it, predecessor and successor are both children of one primary and have the same slot, and by that they meet. PM2 gives both the same
 * `pm_id`; a primary of one's own says it by `cluster.fork({ TSUNAGI_SLOT: '1' })`. A worker that nobody gave a slot hands nothing over.
 */
export interface Slot {
  /** Name of the place in messages and of its control socket. */
  readonly key: string
  /** Milliseconds between the supervisor's signal to the old worker and its SIGKILL. */
  readonly killTimeout: number | undefined
  /** Milliseconds after which the supervisor stops the old worker, whether or not the new one serves. */
  readonly listenTimeout: number | undefined
  /** Whether the application says `process.send('ready')` when it is. */
  readonly saysReady: boolean
}

/** What PM2 says about a worker to itself. @note lib/God/ClusterMode.js forks with it, lib/ProcessContainer.js deletes it: children do not inherit it. */
export interface Pm2Environment {
  pm_id?: number | string
  pm_exec_path?: string
  kill_timeout?: number | string
  listen_timeout?: number | string
  wait_ready?: boolean | string
  restart_delay?: number | string
  exp_backoff_restart_delay?: number | string
}

/** The slot that this process was started in, by its environment at load. */
export function readSlot(environment: NodeJS.ProcessEnv): Slot | undefined {
  const pm2 = pm2Environment(environment)
  if (pm2?.pm_id !== undefined) {
    return {
      key: slotKey(`pm2 ${pm2.pm_id}`),
      killTimeout: firstNumber(pm2.kill_timeout, environment['PM2_KILL_TIMEOUT'], PM2_KILL_TIMEOUT),
      listenTimeout: firstNumber(pm2.listen_timeout, environment['PM2_GRACEFUL_LISTEN_TIMEOUT'], PM2_LISTEN_TIMEOUT),
      saysReady: pm2.wait_ready === true,
    }
  }
  const slot = environment['TSUNAGI_SLOT']
  if (!slot) return undefined
  return { key: slotKey(slot), killTimeout: undefined, listenTimeout: undefined, saysReady: false }
}

/**
 * What of our own variables is in there, put where it will be anyway: PM2 unpacks the environment of its application after `register` was loaded.
 */
export function unpackEnvironment(environment: NodeJS.ProcessEnv): void {
  for (const [name, value] of Object.entries(pm2Environment(environment) ?? {}))
    if (name.startsWith('TSUNAGI_')) environment[name] = String(value)
}

/** The file of the application: PM2 runs one of its own, which loads it. */
export function programOf(environment: NodeJS.ProcessEnv): string | undefined {
  return pm2Environment(environment)?.pm_exec_path ?? process.argv[1]
}

/** Whether this process is a worker of node:cluster. Only for calls from `listen()`, by which time Node has loaded that module itself. */
export function isClusterWorker(): boolean {
  return loadedCluster().isWorker
}

/** Whether its primary has disconnected this worker, or has died. */
export function isDisconnectedWorker(): boolean {
  const { worker } = loadedCluster()
  return worker !== undefined && (worker.exitedAfterDisconnect || !worker.isConnected())
}

function loadedCluster(): typeof import('node:cluster').default {
  return createRequire(import.meta.url)('node:cluster') as typeof import('node:cluster').default
}

/** Where a worker without a slot is to be found. */
export function placeOf(pid: number): string {
  return slotKey(`process ${pid}`)
}

function slotKey(slot: string): string {
  return `worker ${process.ppid}/${slot}`
}

export function pm2Environment(environment: NodeJS.ProcessEnv): Pm2Environment | undefined {
  const text = environment['pm2_env']
  if (text === undefined) return undefined
  try {
    const parsed = JSON.parse(text) as unknown
    return typeof parsed === 'object' && parsed !== null ? (parsed as Pm2Environment) : undefined
  } catch {
    return undefined // somebody else's variable of that name
  }
}

/** Options of PM2 may be numbers or numerals; 0 counts as not given. */
function firstNumber(...values: (number | string | undefined)[]): number {
  return values.map(Number).find((value) => value > 0) as number
}

/** @note pm2 7 constants.js: KILL_TIMEOUT, GRACEFUL_LISTEN_TIMEOUT. */
const PM2_KILL_TIMEOUT = 1_600
const PM2_LISTEN_TIMEOUT = 3_000
