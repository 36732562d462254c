import { controlDirectory, networkNamespace } from '../channel/rendezvous.js'
import type { Env } from '../env.js'
import { TsunagiError } from '../errors.js'
import { repairPowers } from '../native/repair-powers.js'
import { whyConntrackRefuses } from './conntrack.js'
import { holdPackets, releasePackets } from './held-packets.js'
import type { SnapshotHead } from './snapshot-data.js'
import { decodeWhole } from './snapshot-format.js'
import { SnapshotWriter, snapshotPath } from './snapshot-store.js'
import { ageOf, heldPacketsOf, tooOld } from './stored.js'

/**
 * Puts a snapshot that was taken elsewhere where the next start of its address finds it, in this network namespace, and holds its packets from now on: the
 * addresses may be moved here once it returns. Everything is checked before anything is done. Throws ERR_TSUNAGI_REPAIR, _SNAPSHOT, _SNAPSHOT_VERSION,
 * _SNAPSHOT_AGE.
 */
export function importSnapshot(env: Env, bytes: Uint8Array): SnapshotHead {
  const { head: theirs, body } = decodeWhole(bytes)
  if (ageOf(theirs) > theirs.holdMs) throw tooOld(theirs)
  const firewall = whyConntrackRefuses(env.environment)
  if (firewall) throw new TsunagiError('ERR_TSUNAGI_REPAIR', `Connections cannot be restored here: ${firewall}.`)
  const head = { ...theirs, namespace: networkNamespace(), started: IMPORTED }
  const path = snapshotPath(controlDirectory(env.environment), head.bequest.listeners[0]?.key ?? '')
  const powers = repairPowers(env)
  const writer = new SnapshotWriter(path, head)
  try {
    hold()
    writer.complete(body)
    return head
  } catch (error) {
    releasePackets(powers, heldPacketsOf(head))
    writer.abandon()
    throw error
  }

  function hold(): void {
    try {
      holdPackets(powers, heldPacketsOf(head), head.holdMs)
    } catch (cause) {
      throw new TsunagiError('ERR_TSUNAGI_REPAIR', `Connections cannot be restored here: ${(cause as Error).message}.`, { cause })
    }
  }
}

/** In place of the time at which a process was started: the one that saved is not of this machine, or not of now. */
const IMPORTED = 'imported'

/** Whether a snapshot was taken elsewhere, where its packets took another way. */
export function isImported({ started }: SnapshotHead): boolean {
  return started === IMPORTED
}
