import { readFileSync } from 'node:fs'

/** Whether a process exists and is no zombie, where the kernel has no pidfds (before Linux 5.3). */
export function isAlive(pid: number): boolean {
  const state = stateOf(pid)
  return state !== undefined && state !== 'Z'
}

/** Whether it goes on by itself: it is neither dead nor stopped by a signal or a debugger. */
export function isRunning(pid: number): boolean {
  return isAlive(pid) && !'Tt'.includes(stateOf(pid) ?? 'T')
}

/** @note proc_pid_stat(5): the state follows the name. */
function stateOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return stat[stat.lastIndexOf(')') + 2]
  } catch {
    return undefined
  }
}
