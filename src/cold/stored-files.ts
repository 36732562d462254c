import { readdirSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Where snapshots lie: beside the control sockets, in a directory that is ours alone. A file is in one of four states, and its name says in which:
 *
 *   .partial    a process is saving, or died over it: its head says what it holds
 *   .snapshot   complete and durable; the next start of the address claims it
 *   .claimed    a process is restoring, or died over it before it had brought a single connection to life
 *   .spent      it has: nothing is ever restored from it again, and what it holds is about to be released
 */
export type SnapshotState = (typeof STATES)[number]

export interface StoredSnapshot {
  readonly path: string
  readonly state: SnapshotState
}

export function storedSnapshots(directory: string): StoredSnapshot[] {
  return readdirSync(directory).flatMap((name) => {
    const state = STATES.find((state) => name.endsWith(`.${state}`))
    return state ? [{ path: join(directory, name), state }] : []
  })
}

const STATES = ['partial', 'snapshot', 'claimed', 'spent'] as const
