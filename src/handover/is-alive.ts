import { readFileSync } from 'node:fs'

/** Whether a process exists and is no zombie, where the kernel has no pidfds (before Linux 5.3). @note proc_pid_stat(5): the state follows the name. */
export function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return stat[stat.lastIndexOf(')') + 2] !== 'Z'
  } catch {
    return false
  }
}
