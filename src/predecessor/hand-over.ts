import type { Channel } from '../channel/channel.js'
import { TsunagiError } from '../errors.js'
import { Deadline, freezeBudget } from '../handover/deadline.js'
import type { Phase } from '../handover/phase.js'
import { PhaseTimer } from '../handover/report.js'
import type { Installation } from '../installation.js'
import { freeze, type Scope } from './freeze.js'
import type { LateSink } from './moved-socket.js'
import { type Handed, type Released, release } from './release.js'
import { send } from './send.js'
import { snapshot } from './snapshot.js'
import { thaw } from './thaw.js'

/** One transaction, as the conversation has agreed on it. */
export interface Transaction {
  readonly channel: Channel
  readonly scope: Scope
  /** Number of its first connection among all that move to this successor. */
  readonly base: number
  readonly sinkFor: (index: number) => LateSink
}

export type HandedOver = Released & { readonly base: number; readonly phases: PhaseTimer['phases'] }

/**
 * The predecessor's half. One synchronous block, entered from a fresh macrotask: the event loop does not run in it,
 * so nothing can move, and nothing of this process has changed until `commit`. Throws ERR_TSUNAGI_ABORTED with `serving: true`.
 */
export function handOver(installation: Installation, transaction: Transaction): HandedOver {
  const timer = new PhaseTimer(installation.env.now)
  const handed = untilCommit(installation, transaction, timer)
  // The successor owns what it acked. Nothing is undone from here: an error in release ends this process.
  const released = release(installation, handed, transaction.sinkFor)
  timer.end('commit')
  return { ...released, base: transaction.base, phases: timer.phases }
}

function untilCommit(installation: Installation, { channel, scope, base }: Transaction, timer: PhaseTimer): Handed {
  const { env } = installation
  let phase: Phase = 'freeze'
  env.fault('predecessor-before-freeze')
  const frozen = freeze(installation, scope)
  timer.end(phase)
  try {
    phase = 'snapshot'
    const taken = snapshot(installation, frozen, base)
    timer.end(phase)
    phase = 'send'
    const deadline = new Deadline(env.now, freezeBudget(frozen.moving.length, taken.unreadBytes + taken.unsentBytes))
    env.fault('predecessor-before-send')
    send(env, channel, taken, deadline)
    env.fault('predecessor-after-send')
    timer.end(phase)
    phase = 'commit'
    const refused = awaitAck(channel, deadline) // decoded, migrated, every fd checked: the successor can do no more before commit
    env.fault('predecessor-before-commit')
    channel.send({ type: 'commit' }) // the commit point: before it every failure thaws, after it nothing is undone
    env.fault('predecessor-after-commit')
    return { frozen, snapshot: taken, refused }
  } catch (cause) {
    thaw(frozen)
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new TsunagiError('ERR_TSUNAGI_ABORTED', `The handover was given up in phase ${phase}: ${reason} This process goes on serving.`, {
      phase,
      serving: true,
      cause,
    })
  }
}

function awaitAck(channel: Channel, deadline: Deadline): Map<number, string> {
  const received = channel.receive(deadline.left)
  if (received === undefined)
    throw new TsunagiError('ERR_TSUNAGI_ABORTED', 'The successor did not acknowledge within the budget.', { phase: 'commit' })
  channel.closeFds(received.fds)
  const { message } = received
  if (message.type === 'nack')
    throw new TsunagiError('ERR_TSUNAGI_REFUSED', `The successor refused: ${message.reason} (${message.code})`, { phase: 'commit' })
  if (message.type !== 'ack')
    throw new TsunagiError('ERR_TSUNAGI_PROTOCOL', `The successor sent "${message.type}" where "ack" was due.`, { phase: 'commit' })
  return new Map(message.refused)
}
