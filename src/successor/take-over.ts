import type { AttachedServer } from '../attached-server.js'
import type { MessageOf } from '../channel/messages.js'
import { TsunagiError } from '../errors.js'
import { PhaseTimer } from '../handover/report.js'
import type { Installation } from '../installation.js'
import { startAccepting } from '../listener.js'
import { placeInName } from '../name.js'
import { handoverMode } from '../options.js'
import { awaitVerdict } from './await-verdict.js'
import { collectGarbage } from './collect-garbage.js'
import { Inheritance } from './inheritance.js'
import { Landing } from './landing.js'
import { probeHealth } from './probe-health.js'
import { type Aborted, type Arrived, receive } from './receive.js'
import { type Restored, restore } from './restore.js'
import { resume } from './resume.js'
import type { Session } from './session.js'
import { stateDefinitions } from './state-definitions.js'
import { warmUp } from './warm-up.js'

/**
 * The successor's half. From `go` to `resumed` a transaction is one synchronous block here as well: between commit and the last 'connection'
 * handler no event of this process can see half of the connections. Returns once the first has been resumed; others may follow by themselves.
 */
export async function takeOver(installation: Installation, session: Session): Promise<void> {
  const { env } = installation
  const inheritance = new Inheritance(installation, session)
  session.listen()
  await Promise.race([installation.whenReady(), session.failed])
  pairByName(installation, session)
  await Promise.race([probeHealth(installation, session.claimed.values()), session.failed])
  if (!installation.isPressed) await warmUp(installation)
  env.fault('successor-before-ready')
  for (let attempt = 0; ; attempt++) {
    session.channel.send({
      type: 'ready',
      claimed: [...session.claimed.keys(), ...installation.datagrams.open(session.datagrams)],
      states: stateDefinitions(installation, session.claimed),
      mode: handoverMode(env.environment),
    })
    const aborted = takeTransaction(installation, session, inheritance, await session.next('prepare'))
    if (aborted === undefined) break
    if (!aborted.again) {
      throw new TsunagiError('ERR_TSUNAGI_ABORTED', `The predecessor, process ${session.predecessor}, gave up: ${aborted.reason}`, {
        phase: 'commit',
        serving: true,
      })
    }
    session.listen()
    await new Promise((resolve) => setTimeout(resolve, FIRST_RETRY_MS * 4 ** attempt))
  }
  inheritance.follow((prepare) => takeTransaction(installation, session, inheritance, prepare))
}

/** Only now all servers of this process are known. */
function pairByName({ servers }: Installation, session: Session): void {
  const { name, waiting } = session
  if (name === undefined) return
  for (const attached of waiting) session.claimNamed(attached, placeInName(name, servers, attached))
}

/** One transaction, from prepare to resumed; what came instead if the predecessor gave it up. What fails is refused: the predecessor waits for a word. */
function takeTransaction(
  installation: Installation,
  session: Session,
  inheritance: Inheritance,
  prepare: MessageOf<'prepare'>,
): Aborted | undefined {
  try {
    return takeOrThrow(installation, session, inheritance, prepare)
  } catch (error) {
    const { code, message } = error as TsunagiError
    session.tell({ type: 'nack', code: code ?? 'ERR_TSUNAGI_REFUSED', reason: message })
    throw error
  }
}

function takeOrThrow(
  installation: Installation,
  session: Session,
  inheritance: Inheritance,
  { connections }: MessageOf<'prepare'>,
): Aborted | undefined {
  const { env } = installation
  makeRoom(installation, connections)
  const landing = new Landing(env.native, connections)
  if (connections >= WORTH_COLLECTING) collectGarbage()
  session.channel.pause()
  const timer = new PhaseTimer(env.now)
  env.fault('successor-before-receive')
  session.channel.send({ type: 'go' })
  const arrived = receive(session.channel, landing, (late) => inheritance.deliver(late))
  timer.end('receive')
  if ('type' in arrived) return arrived
  const taken = restoreAndCommit(installation, session, arrived, timer)
  if ('type' in taken) return taken
  // What was acked is ours alone: a fault from here on ends this process, so that the predecessor, which still holds everything, takes it back.
  orDie(installation, () => {
    env.fault('successor-after-commit')
    if (inheritance.isFirst) installation.generation = session.generation + 1
    resume(installation, taken, (indexes) => session.tell({ type: 'started', connections: indexes }))
    if (inheritance.isFirst) serveAll(installation, session)
    timer.end('resume')
    env.fault('successor-before-resumed')
    session.tell({ type: 'resumed' })
  })
  landing.clear()
  inheritance.take(arrived, taken, timer)
  return undefined
}

function orDie({ env }: Installation, act: () => void): void {
  try {
    act()
  } catch (error) {
    env.log(
      `after the commit: ${(error as Error)?.stack ?? String(error)}. This process ends, the predecessor takes back what was not started.`,
    )
    process.exit(EXIT_SOFTWARE)
  }
}

/** Up to the verdict nothing of the application has changed: an abort drops what landed and no more. */
function restoreAndCommit(installation: Installation, session: Session, arrived: Arrived, timer: PhaseTimer): Restored | Aborted {
  const { env } = installation
  const { landing } = arrived
  try {
    const restored = restore(installation, arrived, session.claimed)
    timer.end('restore')
    env.fault('successor-before-ack')
    const aborted = acknowledge(session, [...restored.refused])
    if (aborted) {
      landing.dropAll()
      return aborted
    }
    orDie(installation, () => env.fault('successor-after-ack'))
    const verdict = awaitVerdict(session, () => landing.isUnchanged())
    timer.end('commit')
    if (verdict === 'commit') for (const index of restored.refused.keys()) landing.drop(index)
    else landing.dropAll()
    return verdict === 'commit' ? restored : verdict
  } catch (error) {
    landing.dropAll()
    throw error
  }
}

/** An ack that is not taken is none: the predecessor has given up, which it has said, or died before it could count on us. */
function acknowledge({ channel }: Session, refused: [number, string][]): Aborted | undefined {
  try {
    channel.send({ type: 'ack', refused })
    return undefined
  } catch (error) {
    const said = channel.receive(0)
    if (said?.message.type === 'abort') return said.message
    throw error
  }
}

/** Everything that this process has claimed of its predecessor is its own from now on. */
export function serveAll(installation: Installation, { claimed, datagrams }: Session): void {
  serveListeners(installation, claimed)
  installation.datagrams.receive(datagrams)
  for (const key of datagrams) installation.desk.publish(key)
}

/** The listeners accept here from now on, and the next version finds this process. */
export function serveListeners(installation: Installation, claimed: ReadonlyMap<string, AttachedServer>): void {
  for (const attached of claimed.values()) {
    startAccepting(installation.env.native, attached)
    installation.publish(attached)
  }
}

/** While the predecessor still serves: room for descriptors now, since each doubling of the table waits about 10 ms in the kernel. */
export function makeRoom({ env }: Installation, connections: number): void {
  env.native.raiseFdLimit()
  const { soft, open } = env.native.fdLimits()
  const needed = open + connections + SPARE_FDS
  if (needed > soft) {
    throw new TsunagiError(
      'ERR_TSUNAGI_FD_LIMIT',
      `${connections} connections are to be taken over, ${open} descriptors are open, and this process may have ${soft} (RLIMIT_NOFILE). Raise the limit (ulimit -n, LimitNOFILE=) to at least ${needed}.`,
      { phase: 'arm', serving: true },
    )
  }
  env.native.growFdTable(needed)
}

/** Fewer are taken over before the young generation is full. */
const WORTH_COLLECTING = 1_000
const SPARE_FDS = 64
const FIRST_RETRY_MS = 50
/** @note EX_SOFTWARE of sysexits.h: an internal error. */
const EXIT_SOFTWARE = 70
