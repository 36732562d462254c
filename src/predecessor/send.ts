import type { Channel } from '../channel/channel.js'
import { MAX_FDS_PER_MESSAGE } from '../channel/messages.js'
import type { Env } from '../env.js'
import type { Deadline } from '../handover/deadline.js'
import type { Snapshot } from './snapshot.js'

/**
 * Sends descriptors in batches, before the record is made: the receiver, which sits in its loop, looks at each while this side goes on.
 * With more in flight than RLIMIT_NOFILE the kernel says ETOOMANYREFS, which waits for it.
 */
export function sendDescriptors(env: Env, channel: Channel, fds: readonly number[], deadline: Deadline): void {
  for (let at = 0; at < fds.length; at += MAX_FDS_PER_MESSAGE) {
    if (at > 0) env.fault('predecessor-between-batches')
    const batch = fds.slice(at, at + MAX_FDS_PER_MESSAGE)
    whileTooManyInFlight(env, deadline, () => channel.send({ type: 'fds', count: batch.length }, { fds: batch, timeoutMs: deadline.left }))
  }
}

export function sendRecord(channel: Channel, { record, segments }: Snapshot, deadline: Deadline): void {
  channel.send(record, { segments, timeoutMs: deadline.left })
}

export function whileTooManyInFlight(env: Env, deadline: Deadline, attempt: () => void): void {
  for (;;) {
    try {
      return attempt()
    } catch (error) {
      if (!isOutOfRoom(error) || deadline.left === 0) throw error
      env.native.pollReadable(new Int32Array(), 1)
    }
  }
}

/** @note unix(7): ETOOMANYREFS when a user without CAP_SYS_RESOURCE has more descriptors in flight than RLIMIT_NOFILE; nothing was sent then. */
export function isOutOfRoom(error: unknown): boolean {
  return ['ETOOMANYREFS', 'ENOBUFS'].includes((error as NodeJS.ErrnoException).code ?? '')
}
