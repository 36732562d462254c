import { controlDirectory, networkNamespace } from '../channel/rendezvous.js'
import type { Env } from '../env.js'
import { TsunagiError } from '../errors.js'
import { repairPowers } from '../native/repair-powers.js'
import { type HeldPackets, holdPackets, releasePackets } from './held-packets.js'
import { leaveRepairMode, remake, unmake } from './remake.js'
import type { SnapshotHead } from './snapshot-data.js'
import { Claim, isInWork, readHead, removeSnapshot, snapshotPath } from './snapshot-store.js'
import { type StoredSnapshot, storedSnapshots } from './stored-files.js'
import { resetPeers } from './wake.js'

/** A snapshot that may be restored, whose packets are held anew. */
export interface FoundSnapshot {
  readonly path: string
  readonly head: SnapshotHead
}

/**
 * What an earlier process of this user has left for an address of this network namespace. What it left by dying over it, what is too old, and what is damaged
 * is cleared away: its hold is released, nothing of it is adopted. Snapshots of other addresses are left alone.
 */
export function findSaved(env: Env, key: string): FoundSnapshot | undefined {
  const directory = controlDirectory(env.environment)
  let found: FoundSnapshot | undefined
  for (const stored of storedSnapshots(directory)) {
    const head = headOf(env, stored, stored.path === snapshotPath(directory, key) ? key : undefined)
    if (head === undefined || isInWork(stored, head)) continue
    if (!isFor(head, key)) removeIfForgotten(stored, head)
    else if (stored.state === 'partial') clearAway(env, stored, head, 'the process that was saving them died over it')
    else if (stored.state === 'spent') clearAway(env, stored, head, 'the process that had restored them died right after it')
    else if (ageOf(head) > head.holdMs) resetSaved(env, stored, head)
    else found = renewed(env, stored, head) ?? found
  }
  return found
}

export function heldPacketsOf({ ports, tuples }: SnapshotHead): HeldPackets {
  return { ports: Int32Array.from(ports), tuples }
}

/** The connections of a snapshot end as those of a server that is stopped: each peer gets what was written, and the end of the stream. Never throws. */
export function endSaved(env: Env, path: string): void {
  const powers = repairPowers(env)
  try {
    const claim = new Claim(path)
    const held = heldPacketsOf(claim.head)
    try {
      const saved = claim.readBody()
      holdPackets(powers, held, claim.head.holdMs)
      const remade = remake(env.native, powers, saved)
      claim.spend()
      releasePackets(powers, held)
      leaveRepairMode(powers, remade, saved)
      env.native.endConnections(remade.fds.filter((fd) => fd >= 0))
      unmake(env.native, remade)
      resetPeers(env, saved, remade.failed.keys())
    } finally {
      releasePackets(powers, held)
      claim.forget()
    }
  } catch (error) {
    env.log(`the connections in ${path} were not ended, and run into their hold's time: ${(error as Error).message}`)
  }
}

/** The hold comes first of all: it may be about to expire. */
function renewed(env: Env, { path }: StoredSnapshot, head: SnapshotHead): FoundSnapshot | undefined {
  try {
    holdPackets(repairPowers(env), heldPacketsOf(head), head.holdMs)
    return { path, head }
  } catch (error) {
    env.log(`connections that were saved in ${path} cannot be restored: ${(error as Error).message}`)
    return undefined
  }
}

/** `undefined` for one that cannot be read. Where it is that of the address that is asked for, its port is let go: what else it holds nobody knows. */
function headOf(env: Env, { path }: StoredSnapshot, key: string | undefined): SnapshotHead | undefined {
  try {
    return readHead(path).head
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || key === undefined) return undefined // somebody was faster, or it is somebody else's
    env.log(`${message} (${code}, ${path})`)
    removeSnapshot(path)
    const port = /:(\d+)( v6only)?$/.exec(key)?.[1]
    if (port) release(env, { ports: Int32Array.of(Number(port)), tuples: new Uint8Array() })
    return undefined
  }
}

function isFor({ bequest, namespace }: SnapshotHead, key: string): boolean {
  return namespace === networkNamespace() && bequest.listeners.some((listener) => listener.key === key)
}

/** A clock that was set back makes nothing young. */
export function ageOf({ bequest }: SnapshotHead): number {
  return Math.abs(Date.now() - bequest.leftAt)
}

/** Of another address: its server did not come back, and what clients have said to it does not belong on a disk. What it held is over. */
function removeIfForgotten({ path }: StoredSnapshot, head: SnapshotHead): void {
  if (ageOf(head) > 2 * head.holdMs) removeSnapshot(path)
}

function clearAway(env: Env, { path }: StoredSnapshot, head: SnapshotHead, why: string): void {
  env.log(`the connections of process ${head.bequest.pid} are not restored: ${why}`)
  removeSnapshot(path)
  release(env, heldPacketsOf(head))
}

/** Too old: whoever is still there is told so, since nobody would answer it any more than by a reset. */
function resetSaved(env: Env, { path }: StoredSnapshot, head: SnapshotHead): void {
  env.log(`the connections of process ${head.bequest.pid} are not restored: ${tooOld(head).message} (ERR_TSUNAGI_SNAPSHOT_AGE)`)
  try {
    const claim = new Claim(path)
    claim.spend()
    release(env, heldPacketsOf(head))
    const saved = claim.readBody()
    claim.forget()
    resetPeers(env, saved, Array(saved.record.count).keys())
  } catch (error) {
    env.log(`its peers are not told: ${(error as Error).message}`)
  }
}

function release(env: Env, held: HeldPackets): void {
  try {
    releasePackets(repairPowers(env), held)
  } catch (error) {
    env.log(`packets are held until that ends by itself: ${(error as Error).message}`)
  }
}

export function tooOld(head: SnapshotHead): TsunagiError {
  return new TsunagiError(
    'ERR_TSUNAGI_SNAPSHOT_AGE',
    `The snapshot is ${(ageOf(head) / 1000).toFixed(1)} s old, and packets were held for ${head.holdMs / 1000} s: since then peers may have been reset. Nothing of it is restored (TSUNAGI_HOLD, in seconds, is how long both may take).`,
    { phase: 'restore' },
  )
}
