import { TsunagiError } from '../errors.js'
import { countReasons, type HandoverReport, PhaseTimer, publishReport, reportLine } from '../handover/report.js'
import type { Installation } from '../installation.js'
import { startAccepting } from '../listener.js'
import { awaitVerdict } from './await-verdict.js'
import { deliverLate } from './late-writes.js'
import { type Aborted, type Arrived, receive } from './receive.js'
import { type Restored, restore } from './restore.js'
import { resume } from './resume.js'
import type { Session } from './session.js'

/**
 * The successor's half. From `go` to `resumed` it is one synchronous block as well: between commit and the last 'connection' handler
 * no event of this process can see half of the connections.
 */
export async function takeOver(installation: Installation, session: Session): Promise<void> {
  const { env } = installation
  await untilReady(installation, session)
  env.fault('successor-before-ready')
  for (let attempt = 0; ; attempt++) {
    session.channel.send({ type: 'ready', claimed: [...session.claimed.keys()], states: installation.stateDefinitions() })
    const { connections } = await session.next('prepare')
    prepare(installation, connections)
    session.channel.pause()
    const timer = new PhaseTimer(env.now)
    env.fault('successor-before-receive')
    session.channel.send({ type: 'go' })
    const taken = receiveAndRestore(installation, session, timer)
    if (!('type' in taken)) return finish(installation, session, taken, timer)
    if (!taken.again)
      throw new TsunagiError('ERR_TSUNAGI_ABORTED', `The predecessor, process ${session.predecessor}, gave up: ${taken.reason}`, {
        phase: 'commit',
        serving: true,
      })
    session.listen()
    await new Promise((resolve) => setTimeout(resolve, FIRST_RETRY_MS * 4 ** attempt))
  }
}

/** Up to the verdict nothing of the application has changed: an abort closes what arrived and no more. */
function receiveAndRestore(installation: Installation, session: Session, timer: PhaseTimer): Restored | Aborted {
  const { env } = installation
  const arrived = receive(session.channel)
  timer.end('receive')
  if ('type' in arrived) return arrived
  try {
    const restored = restoreOrRefuse(installation, session, arrived)
    timer.end('restore')
    env.fault('successor-before-ack')
    session.acknowledge([...restored.refused])
    env.fault('successor-after-ack')
    const verdict = awaitVerdict(env, session)
    timer.end('commit')
    if (verdict !== 'commit') {
      session.channel.closeFds(arrived.fds)
      return verdict
    }
    session.channel.closeFds(arrived.fds.filter((_, index) => restored.refused.has(index)))
    return restored
  } catch (error) {
    session.channel.closeFds(arrived.fds)
    throw error
  }
}

function restoreOrRefuse(installation: Installation, session: Session, arrived: Arrived): Restored {
  try {
    return restore(installation, arrived, session.claimed)
  } catch (error) {
    const { code, message } = error as TsunagiError
    session.channel.send({ type: 'nack', code: code ?? 'ERR_TSUNAGI_REFUSED', reason: message })
    throw error
  }
}

function finish(installation: Installation, session: Session, restored: Restored, timer: PhaseTimer): void {
  const { env } = installation
  env.fault('successor-after-commit')
  installation.generation = session.generation + 1
  resume(installation, restored, (connections) => session.tell({ type: 'started', connections }))
  serveListeners(installation, session)
  timer.end('resume')
  env.fault('successor-before-resumed')
  session.tell({ type: 'resumed' })
  deliverLate(session, new Map(restored.connections.map(({ index, socket }) => [index, socket])))
  installation.lifecycle.own()
  const report: HandoverReport = {
    role: 'successor',
    generation: installation.generation,
    predecessor: session.predecessor,
    successor: process.pid,
    listeners: [...session.claimed.keys()],
    moved: restored.connections.length,
    stayed: countReasons(restored.refused.values()),
    unreadBytes: sumBytes(restored, 'unread'),
    unsentBytes: sumBytes(restored, 'unsent'),
    carriedBytes: 0,
    unclaimedState: restored.unclaimedState,
    phases: timer.phases,
  }
  env.log(reportLine(report))
  publishReport(report)
  for (const attached of session.claimed.values()) attached.server.emit('resumed', report)
}

/** The listeners accept here from now on, and the next version finds this process. */
export function serveListeners(installation: Installation, session: Session): void {
  for (const attached of session.claimed.values()) {
    startAccepting(installation.env.native, attached)
    installation.desk.publish(attached.key)
  }
}

async function untilReady(installation: Installation, session: Session): Promise<void> {
  session.listen()
  await Promise.race([installation.whenReady(), session.failed])
}

/** While the predecessor still serves: room for descriptors now, since each doubling of the table waits about 10 ms in the kernel. */
function prepare({ env }: Installation, connections: number): void {
  env.native.raiseFdLimit()
  const { soft, open } = env.native.fdLimits()
  if (open + connections + SPARE_FDS > soft) {
    throw new TsunagiError(
      'ERR_TSUNAGI_FD_LIMIT',
      `${connections} connections are to be taken over, ${open} descriptors are open, and this process may have ${soft} (RLIMIT_NOFILE). Raise the limit (ulimit -n, LimitNOFILE=) to at least ${open + connections + SPARE_FDS}.`,
      { phase: 'arm', serving: true },
    )
  }
  env.native.growFdTable(open + connections + SPARE_FDS)
}

function sumBytes({ connections }: Restored, field: 'unread' | 'unsent'): number {
  return connections.reduce((sum, connection) => sum + connection[field].reduce((bytes, piece) => bytes + piece.length, 0), 0)
}

const SPARE_FDS = 64
const FIRST_RETRY_MS = 50
