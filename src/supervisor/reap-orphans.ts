import { readdirSync, readFileSync } from 'node:fs'
import type { Native } from '../native/native.js'

/**
 * Process 1 of a pid namespace gets every process whose parent has died, and has to take note of their end, or they stay as zombies for ever. libuv only
 * waits for the processes that it has started itself, one by one, so the two do not get into each other's way.
 */
export function reapOrphans(native: Native, ownPids: () => ReadonlySet<number>): void {
  const reap = () => {
    const own = ownPids()
    for (const pid of zombies()) if (!own.has(pid)) native.reap(pid)
  }
  process.on('SIGCHLD', reap)
  reap()
}

/** Children of this process that have ended. @note proc_pid_stat(5): behind the name in parentheses come the state and the parent. */
function zombies(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && isOurZombie(name))
    .map(Number)
}

function isOurZombie(pid: string): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return state === 'Z' && Number(parent) === process.pid
  } catch {
    return false // gone meanwhile
  }
}
