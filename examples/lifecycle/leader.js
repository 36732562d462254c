import { appendFileSync, linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'

/**
 * Leads from when the lock is free until another process serves. That one is told that it owns a moment before this one is told that it retires:
 * the lock is what keeps them apart, and the journal has who led when.
 */
export async function leadWhile(lock, journal, retiring) {
  while (!acquire(lock)) await delay(5)
  if (!retiring.aborted) {
    appendFileSync(journal, `${process.pid} leads\n`)
    await new Promise((resolve) => retiring.addEventListener('abort', resolve))
    appendFileSync(journal, `${process.pid} resigns\n`)
  }
  rmSync(lock)
}

/** A link is there or not, with its content. The lock of a process that has died counts for nothing. */
function acquire(lock) {
  const own = `${lock}.${process.pid}`
  writeFileSync(own, String(process.pid))
  try {
    linkSync(own, lock)
    return true
  } catch (error) {
    if (error.code !== 'EEXIST') throw error
    if (!isAlive(holderOf(lock))) rmSync(lock, { force: true })
    return false
  } finally {
    rmSync(own)
  }
}

function holderOf(lock) {
  try {
    return Number(readFileSync(lock, 'utf8'))
  } catch {
    return process.pid // given back just now: the next try will tell
  }
}

function isAlive(pid) {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return error.code === 'EPERM'
  }
}
