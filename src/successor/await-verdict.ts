import { TsunagiError } from '../errors.js'
import type { Aborted } from './receive.js'
import type { Session } from './session.js'

/**
 * Prepared: everything was acked and nothing is committed. There is no deadline here. Only commit, abort or the proven death of the predecessor
 * ends it; a channel that closed proves nothing, so the predecessor's pidfd is asked. Where death cannot be proven, everything is left to it.
 */
export function awaitVerdict(session: Session, isCurrent: () => boolean): 'commit' | Aborted {
  for (;;) {
    try {
      const received = session.channel.receive(-1)
      if (received === undefined) continue
      session.channel.closeFds(received.fds)
      if (received.message.type === 'commit') return 'commit'
      if (received.message.type === 'abort') return received.message
      throw new TsunagiError('ERR_TSUNAGI_PROTOCOL', `The predecessor sent "${received.message.type}" where "commit" or "abort" was due.`, {
        phase: 'commit',
      })
    } catch (error) {
      if ((error as TsunagiError).code !== 'ERR_TSUNAGI_CHANNEL_CLOSED') throw error
      // Dead, and we hold all it had: nobody else can own them, if nothing has happened to them since the record was made.
      if (session.peer.provesDeath(DEATH_TIMEOUT) && isCurrent()) return 'commit'
      throw new TsunagiError(
        'ERR_TSUNAGI_OWNERSHIP',
        `The predecessor, process ${session.predecessor}, closed the channel without a commit and is not proven dead: its connections were left to it.`,
        { phase: 'commit', serving: true, cause: error },
      )
    }
  }
}

/** A process that dies closes its descriptors a moment before it counts as dead. */
const DEATH_TIMEOUT = 5_000
