import type { Channel } from '../channel/channel.js'
import { TsunagiError } from '../errors.js'
import { Deadline, freezeBudget } from '../handover/deadline.js'
import type { Phase } from '../handover/phase.js'
import { PhaseTimer } from '../handover/report.js'
import type { Installation } from '../installation.js'
import { moveAll } from '../options.js'
import type { LateSink } from '../protocols/protocol.js'
import { type Frozen, freeze, type Scope } from './freeze.js'
import { insure } from './insure.js'
import { type Copies, closeCopies, copyDescriptors, type Handed, type Released, release } from './release.js'
import { sendDescriptors, sendRecord } from './send.js'
import { notAhead, snapshot } from './snapshot.js'
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
  try {
    installation.env.fault('predecessor-after-commit')
    installation.survival?.letGo() // or closing our descriptors would end what is the successor's
    const released = release(installation, handed, transaction.sinkFor)
    timer.end('commit')
    return { ...released, base: transaction.base, phases: timer.phases }
  } catch (error) {
    // The successor owns what it acked, and this process has not let go of all of it: two would serve it.
    installation.env.log(`after the commit: ${(error as Error)?.stack ?? String(error)}. This process ends, the successor serves.`)
    process.exit(EXIT_SOFTWARE)
  }
}

function untilCommit(installation: Installation, { channel, scope, base }: Transaction, timer: PhaseTimer): Handed {
  const { env } = installation
  let phase: Phase = 'freeze'
  let frozen: Frozen | undefined
  let copies: Copies | undefined
  try {
    env.fault('predecessor-before-freeze')
    const standStill = () => scope.ahead && channel.send({ type: 'fds', count: 0 }) // the successor looks at what it has while this side goes on
    const asksNobody = [...installation.servers].every(({ options }) => options.policy === moveAll)
    if (asksNobody) standStill()
    frozen = freeze(installation, scope)
    if (!asksNobody) standStill() // a policy may write
    timer.end(phase)
    phase = 'send'
    env.fault('predecessor-before-send')
    const figures = insure(env, frozen) // before its descriptor is there: while it is in repair mode nobody else may use it
    const sent = notAhead(frozen.moving).map(({ fd }) => fd)
    sendDescriptors(env, channel, sent, new Deadline(env.now, freezeBudget(sent.length, 0)))
    timer.end(phase)
    phase = 'snapshot'
    const taken = snapshot(installation, frozen, base, scope.more)
    timer.end(phase)
    phase = 'send'
    const deadline = new Deadline(env.now, freezeBudget(taken.record.count, taken.unreadBytes + taken.unsentBytes))
    const joined = notAhead(frozen.moving).slice(sent.length) // by carried state
    sendDescriptors(
      env,
      channel,
      joined.map(({ fd }) => fd),
      deadline,
    )
    sendRecord(channel, figures ? { ...taken, record: { ...taken.record, repair: figures } } : taken, deadline)
    env.fault('predecessor-after-send')
    timer.end(phase)
    phase = 'commit'
    const refused = awaitAck(channel, taken.record.count, deadline) // decoded, migrated, every fd checked: the successor can do no more before commit
    const kept = new Map([...taken.held, ...refused])
    copies = copyDescriptors(installation, frozen, taken, kept) // there may be no room for them
    env.fault('predecessor-before-commit')
    channel.send({ type: 'commit' }) // the commit point: before it every failure thaws, after it nothing is undone
    return { frozen, snapshot: taken, kept, copies }
  } catch (cause) {
    if (copies) closeCopies(installation, copies)
    if (frozen) thaw(frozen)
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new TsunagiError('ERR_TSUNAGI_ABORTED', `The handover was given up in phase ${phase}: ${reason} This process goes on serving.`, {
      phase,
      serving: true,
      cause,
    })
  }
}

function awaitAck(channel: Channel, count: number, deadline: Deadline): Map<number, string> {
  const received = channel.receive(deadline.left)
  if (received === undefined)
    throw new TsunagiError('ERR_TSUNAGI_ABORTED', 'The successor did not acknowledge within the budget.', { phase: 'commit' })
  channel.closeFds(received.fds)
  const { message } = received
  // It has waited for too long, as after this process was stopped: the next try may do.
  if (message.type === 'nack' && message.code === 'ERR_TSUNAGI_ABORTED')
    throw new TsunagiError('ERR_TSUNAGI_ABORTED', `The successor gave this try up: ${message.reason}`, { phase: 'commit' })
  if (message.type === 'nack')
    throw new TsunagiError('ERR_TSUNAGI_REFUSED', `The successor refused: ${message.reason} (${message.code})`, { phase: 'commit' })
  if (message.type !== 'ack')
    throw new TsunagiError('ERR_TSUNAGI_PROTOCOL', `The successor sent "${message.type}" where "ack" was due.`, { phase: 'commit' })
  if (message.refused.some(([index]) => index >= count)) {
    throw new TsunagiError('ERR_TSUNAGI_PROTOCOL', 'The successor refused a connection that was not sent.', { phase: 'commit' })
  }
  return new Map(message.refused.map(([index, reason]) => [index, `the successor refused it: ${reason}`]))
}

/** @note EX_SOFTWARE of sysexits.h: an internal error. */
const EXIT_SOFTWARE = 70
