import { controlDirectory, networkNamespace } from '../channel/rendezvous.js'
import { type Dumped, dump, undump } from '../cold/dump.js'
import { holdPackets, releasePackets } from '../cold/held-packets.js'
import { SnapshotWriter, snapshotPath, startTimeOf } from '../cold/snapshot-store.js'
import { endSaved, findSaved } from '../cold/stored.js'
import { ownPorts, tuplesBeside } from '../cold/what-to-hold.js'
import { TsunagiError } from '../errors.js'
import type { Installation } from '../installation.js'
import { repairPowers } from '../native/repair-powers.js'
import { packetHoldTime } from '../options.js'
import { HeldSnapshot } from './held-snapshot.js'
import type { Bundle, Holder, Put } from './holder.js'

/**
 * Nobody holds the descriptors: connections become data in a file, under a packet hold, and the next start makes them again. Their peers see a network that is
 * silent for a while. What is left behind expires: the hold by itself, the file with it.
 *
 *   put    head on disk → hold → repair mode → both queues of each → file, durable → (the sockets are closed, without a packet)
 *   find   hold again → … boots … → claim → sockets in repair mode → commit: file gone → release → repair mode off → resume
 */
export const snapshotFile: Holder = {
  name: 'snapshot',
  keepsListeners: false,

  unavailable({ env }) {
    try {
      repairPowers(env).holdCreate()
      return undefined
    } catch (error) {
      return (error as Error).message
    }
  },

  put(installation, bundle) {
    const { env } = installation
    if (bundle.listeners.length === 0) throw new Error('there is no address of its own at which they would be found')
    const holdMs = packetHoldTime(env.environment)
    const path = snapshotPath(controlDirectory(env.environment), firstKey(bundle))
    const { refused, alone } = save(installation, bundle, path, holdMs)
    for (const reason of refused.values()) env.log(`a connection is not saved and ends: ${reason}`)
    return {
      where: `${path}, for ${holdMs / 1000} s`,
      saved: { file: path, refused },
      discard: () => endSaved(env, path),
      alone,
    } satisfies Put
  },

  find({ env }, key) {
    const found = findSaved(env, key)
    return found && new HeldSnapshot(env, found.path, found.head)
  },
}

/** Throws, and then everything is as it was. */
function save({ env }: Installation, bundle: Bundle, path: string, holdMs: number) {
  const powers = repairPowers(env)
  const ports = ownPorts(env.native, bundle.listeners)
  // Of a port whose other connections this process goes on serving each is held by itself, and the port once this process ends.
  const now = bundle.staying > 0 ? new Int32Array() : ports
  const held = { ports: now, tuples: tuplesBeside(env.native, now, bundle.fds) }
  const writer = new SnapshotWriter(path, {
    bequest: bundle.bequest,
    started: startTimeOf(process.pid),
    namespace: networkNamespace(),
    holdMs,
    ports: [...ports],
    tuples: held.tuples,
  })
  let dumped: Dumped | undefined
  try {
    env.fault('snapshot-before-hold')
    const heldSince = env.now()
    holdPackets(powers, held, holdMs)
    env.fault('snapshot-after-hold')
    env.native.pollReadable(new Int32Array(), SETTLE_MS) // for packets that were past the hold already
    dumped = dump(env.native, powers, bundle.fds, bundle.record)
    env.fault('snapshot-after-dump')
    writer.complete({ ...dumped, record: bundle.record, segments: bundle.segments })
    env.fault('snapshot-after-file')
    if (env.now() - heldSince >= holdMs) throw tookTooLong(holdMs)
    return { refused: dumped.refused, alone: () => holdPackets(powers, { ports, tuples: held.tuples }, holdMs) }
  } catch (error) {
    releasePackets(powers, held)
    if (dumped) undump(powers, bundle.fds, dumped) // after the release: what it tells the peers would be held as well
    writer.abandon()
    throw error
  }
}

/** Packets have come through in between, to sockets that could not answer: what was saved is not what is. */
function tookTooLong(holdMs: number): TsunagiError {
  return new TsunagiError('ERR_TSUNAGI_SNAPSHOT_AGE', `Saving took longer than packets are held, ${holdMs / 1000} s (TSUNAGI_HOLD).`, {
    phase: 'send',
    serving: true,
  })
}

function firstKey({ bequest }: Bundle): string {
  return bequest.listeners[0]?.key ?? ''
}

const SETTLE_MS = 1
