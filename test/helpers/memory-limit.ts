import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { onTestFinished } from 'vitest'

/** Where the kernel lets this process make a group of processes with a memory limit, and what the limit is called there. @note cgroups(7): version 1 or 2. */
const PLACES = [
  { folder: '/sys/fs/cgroup/memory', limit: 'memory.limit_in_bytes' },
  { folder: '/sys/fs/cgroup', limit: 'memory.max' },
]

/**
 * A command line that runs what follows in a group of processes of which the kernel kills one when together they use more memory than that: the largest. The group
 * is gone when the test is over.
 */
export function withMemoryLimit(megabytes: number): string[] {
  const group = makeGroup()
  writeFileSync(join(group.folder, group.limit), String(megabytes * 1024 * 1024))
  onTestFinished(() => removeWhenEmpty(group.folder))
  return ['sh', '-c', `echo $$ > ${group.folder}/cgroup.procs && exec "$@"`, 'sh', process.execPath]
}

export function memoryLimits(): { ok: true } | { ok: false; reason: string } {
  try {
    rmdirSync(makeGroup().folder)
    return { ok: true }
  } catch (error) {
    return { ok: false, reason: (error as Error).message }
  }
}

function makeGroup() {
  const reasons: string[] = []
  for (const { folder, limit } of PLACES) {
    const own = join(folder, `tsunagi-test-${process.pid}-${Math.random().toString(36).slice(2)}`)
    try {
      mkdirSync(own)
      if (existsSync(join(own, limit))) return { folder: own, limit }
      rmdirSync(own)
      reasons.push(`${folder} has no ${limit}`)
    } catch (error) {
      reasons.push((error as Error).message)
    }
  }
  throw new Error(`no group of processes can have a memory limit here: ${reasons.join('; ')}`)
}

async function removeWhenEmpty(folder: string): Promise<void> {
  for (;;) {
    try {
      return rmdirSync(folder)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EBUSY') throw error
      await delay(10)
    }
  }
}
