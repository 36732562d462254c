import { readdirSync, readFileSync } from 'node:fs'
import { uptime } from 'node:os'
import { startTimeOf } from '../cold/snapshot-store.js'
import type { Installation } from '../installation.js'
import { type Pm2Environment, pm2Environment } from '../slot.js'

/**
 * The PM2 that has started this process, and for how long it starts nobody, at most, before it starts the next one: its `stop` and its `restart` look the
 * same to a process, until there is a new one or none. `undefined` where that tells nothing: another one has been started already, or `TSUNAGI_HOLD` asks
 * for its time in any case.
 *
 * @note pm2 7 lib/God/ActionMethods.js: a restart begins the next process as soon as it finds the last one and its children dead, for which it looks every
 * 100 ms; lib/God.js: one that ends by itself is started again after `restart_delay`.
 */
export function restarter({ start, slot, env }: Installation): { pid: number; quietMs: number } | undefined {
  const pm2: Pm2Environment = { ...start.environment, ...pm2Environment(start.environment) } // a process of its own has it in its environment
  const { ppid: pid } = process
  const siblings = childrenOf(pid)
  if (env.environment['TSUNAGI_HOLD'] || pm2.pm_id === undefined || pm2.exp_backoff_restart_delay !== undefined || !isPm2(pid))
    return undefined
  if (!siblings || (slot && siblings.some((sibling) => isYounger(sibling, (slot.listenTimeout ?? 0) + OVERLAP_MS)))) return undefined
  const killTimeout = childrenOf(process.pid)?.length !== 0 ? Number(pm2.kill_timeout) || PM2_KILL_TIMEOUT : 0
  return { pid, quietMs: QUIET_MS + killTimeout + (Number(pm2.restart_delay) || 0) }
}

/** What the application starts inherits its environment. @note pm2 7 lib/Daemon.js: process.title */
function isPm2(pid: number): boolean {
  try {
    return /^PM2 v.*God Daemon/.test(readFileSync(`/proc/${pid}/cmdline`, 'latin1'))
  } catch {
    return false
  }
}

/** Whether it was started after this process, and within this time: it may be the new worker, which boots. */
function isYounger(pid: number, withinMs: number): boolean {
  const started = Number(startTimeOf(pid))
  return pid !== process.pid && started >= Number(startTimeOf(process.pid)) && started >= (uptime() - withinMs / 1000) * TICKS
}

/** `undefined` where the kernel does not tell. @note proc_pid_children(5), of each thread */
function childrenOf(pid: number): number[] | undefined {
  try {
    const threads = readdirSync(`/proc/${pid}/task`)
    return threads.flatMap((thread) =>
      readFileSync(`/proc/${pid}/task/${thread}/children`, 'latin1').split(' ').filter(Boolean).map(Number),
    )
  } catch {
    return undefined
  }
}

const QUIET_MS = 1_500
/** A worker that PM2 stops because the new one does not serve yet was overtaken by it at most `listen_timeout` ago. */
const OVERLAP_MS = 5_000
/** @note pm2 7 constants.js */
const PM2_KILL_TIMEOUT = 1_600
/** @note proc_pid_stat(5): clock ticks, of which Linux shows 100 a second everywhere. */
const TICKS = 100
