import { copyFileSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { installation } from './attach.js'
import { TsunagiError } from './errors.js'
import { halves } from './halves.js'
import type { Installation } from './installation.js'

/** What `snapshot()` has saved. */
export interface SaveReport {
  /** Where the snapshot is. */
  file: string
  connections: number
  /** Connections that could not be saved and end with this process, by reason. */
  ending: [reason: string, connections: number][]
}

/** What `restore()` has found. */
export interface FoundReport {
  /** Address keys of the listeners: listening on one of them restores. */
  listeners: string[]
  connections: number
  /** ms since 1970. */
  savedAt: number
  /** Milliseconds since then for which it may be restored. */
  holdMs: number
}

/**
 * Saves the connections of all attached servers as data, which needs CAP_NET_ADMIN. Their packets are held for `TSUNAGI_HOLD` seconds, 60 unless set; within
 * that time the next process that listens on the address has them again, here or, by `restore`, elsewhere. This process has none of them any
 * more when it resolves, and does not accept: end it.
 *
 * @param file where to put it; without one it is where the next start of the address finds it by itself
 * @throws TsunagiError ERR_TSUNAGI_REPAIR, ERR_TSUNAGI_BUSY: nothing has changed
 */
export async function snapshot(file?: string): Promise<SaveReport> {
  const { saved } = await halves().saveByHand(here())
  if (file !== undefined) moveTo(saved.file, file)
  return { ...saved, file: file ?? saved.file }
}

/**
 * Takes a snapshot that `snapshot()` or `tsunagi snapshot` has put into a file: call it before `listen()`, which then restores. Its packets are held here
 * from now on, so the address may be moved to this machine after it. The file is removed: a snapshot is restored once.
 *
 * @throws TsunagiError ERR_TSUNAGI_REPAIR, ERR_TSUNAGI_SNAPSHOT, ERR_TSUNAGI_SNAPSHOT_VERSION, ERR_TSUNAGI_SNAPSHOT_AGE: nothing has changed
 */
export function restore(file: string): FoundReport {
  const { bequest, holdMs } = halves().importSnapshot(here().env, readFileSync(file))
  rmSync(file)
  return { listeners: bequest.listeners.map(({ key }) => key), connections: bequest.connections, savedAt: bequest.leftAt, holdMs }
}

function here(): Installation {
  const found = installation()
  if (found === undefined)
    throw new TsunagiError('ERR_TSUNAGI_REPAIR', 'Connections are saved and restored by the main thread, on Linux, with the native addon.')
  return found
}

/** Across file systems as well; whole, or not at all. */
function moveTo(from: string, to: string): void {
  const aside = `${to}.${process.pid}`
  try {
    copyFileSync(from, aside)
    renameSync(aside, to)
  } catch (error) {
    rmSync(aside, { force: true })
    throw error
  }
  rmSync(from)
}
