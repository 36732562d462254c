import type { AttachedServer } from '../attached-server.js'
import { canaryWish } from '../canary.js'
import type { Canary, MessageOf } from '../channel/messages.js'
import { TsunagiError } from '../errors.js'
import { PhaseTimer } from '../handover/report.js'
import type { Installation } from '../installation.js'
import { startAccepting } from '../listener.js'
import { placeInName } from '../name.js'
import { handoverMode } from '../options.js'
import { isClusterWorker } from '../slot.js'
import { awaitVerdict } from './await-verdict.js'
import { collectGarbage } from './collect-garbage.js'
import { Inheritance } from './inheritance.js'
import { Landing } from './landing.js'
import { LeftoverListeners } from './leftover-listeners.js'
import { makeRoom } from './make-room.js'
import { openLentSession } from './meet.js'
import { onTrial } from './on-trial.js'
import { probeHealth } from './probe-health.js'
import { type Aborted, type Arrived, receive } from './receive.js'
import { type Restored, restore } from './restore.js'
import { resume } from './resume.js'
import type { Session } from './session.js'
import { stateDefinitions } from './state-definitions.js'
import { takeAhead } from './take-ahead.js'
import { warmUp } from './warm-up.js'

/**
 * The successor's half. From `go` to `resumed` a transaction is one synchronous block here as well: between commit and the last 'connection'
 * handler no event of this process can see half of the connections. Returns once the first has been resumed; others may follow by themselves.
 */
export async function takeOver(installation: Installation, session: Session): Promise<void> {
  const { env } = installation
  const inheritance = new Inheritance(installation, session)
  session.onLate = (late) => inheritance.deliver(late)
  session.listen()
  await Promise.race([installation.whenReady(), session.failed])
  pairByName(installation, session)
  await Promise.race([probeHealth(installation, session.claimed.values()), session.failed])
  if (!installation.isPressed) await warmUp(installation)
  env.fault('successor-before-ready')
  const mode = handoverMode(env.environment)
  const wish = isClusterWorker() ? { connections: 0, watch: 0 } : canaryWish(env.environment)
  const watch = await takeFirst(installation, session, inheritance, { mode, canary: wish })
  if (watch !== undefined) {
    await onTrial(installation, session, inheritance, watch, async () => {
      await takeFirst(installation, session, inheritance, { mode, canary: { connections: 0, watch: 0 } })
    })
  }
  inheritance.follow((prepare) => takeTransaction(installation, session, inheritance, prepare))
}

/** This process serves, and takes what its successor, which was not well with it, gives back (see predecessor/trial.ts). Calls back with what has come each time; resolves when that has left. */
export async function takeLent(
  installation: Installation,
  key: string,
  onReturned: (identities: ReadonlySet<number>) => void,
): Promise<void> {
  const session = openLentSession(installation, key)
  if (session === undefined) throw new TsunagiError('ERR_TSUNAGI_LOOKUP', 'it is not to be found any more', { serving: true })
  const inheritance = new Inheritance(installation, session)
  inheritance.isFirst = false
  inheritance.onTaken = onReturned
  session.onLate = (late) => inheritance.deliver(late)
  try {
    for (const attached of installation.servers) if (attached.key !== '' && !attached.isShared) session.claimShared(attached)
    session.listen()
    await takeFirst(installation, session, inheritance, { mode: 'atomic', canary: { connections: 0, watch: 0 } })
    await new Promise<void>((resolve) => {
      inheritance.follow((prepare) => takeTransaction(installation, session, inheritance, prepare), resolve)
    })
  } finally {
    session.close()
  }
}

/** Asks for the transaction that is next until it has been taken; for how many milliseconds this process is watched then, where it was a canary. */
async function takeFirst(
  installation: Installation,
  session: Session,
  inheritance: Inheritance,
  { mode, canary }: Required<Pick<MessageOf<'ready'>, 'mode' | 'canary'>>,
): Promise<number | undefined> {
  for (let attempt = 0; ; attempt++) {
    session.channel.send({
      type: 'ready',
      claimed: [...session.claimed.keys(), ...installation.datagrams.open(session.datagrams)],
      states: stateDefinitions(installation, session.claimed),
      mode,
      canary,
      ahead: true,
    })
    const landing = new Landing(installation.env.native)
    const prepare = await takeAhead(installation, session, landing)
    const aborted =
      prepare.type === 'abort' ? prepare : takeTransaction(installation, session, inheritance, asWished(prepare, canary), landing)
    if (aborted === undefined) return (prepare as MessageOf<'prepare'>).watch
    if (!aborted.again) {
      throw new TsunagiError('ERR_TSUNAGI_ABORTED', `The predecessor, process ${session.predecessor}, gave up: ${aborted.reason}`, {
        phase: 'commit',
        serving: true,
      })
    }
    session.listen()
    await new Promise((resolve) => setTimeout(resolve, FIRST_RETRY_MS * 4 ** attempt))
  }
}

/** An older predecessor would hand everything over at once. */
function asWished(prepare: MessageOf<'prepare'>, { connections }: Canary): MessageOf<'prepare'> {
  if (connections === 0 || prepare.watch !== undefined) return prepare
  throw new TsunagiError('ERR_TSUNAGI_PROTOCOL', 'The predecessor has a tsunagi that knows nothing of canaries: start without one.', {
    phase: 'arm',
    serving: true,
  })
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
  landing = new Landing(installation.env.native),
): Aborted | undefined {
  try {
    return takeOrThrow(installation, session, inheritance, prepare, landing)
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
  { connections, watch }: MessageOf<'prepare'>,
  landing: Landing,
): Aborted | undefined {
  const { env } = installation
  try {
    makeRoom(installation, connections - landing.count)
    landing.expect(connections)
  } catch (error) {
    landing.dropAll()
    throw error
  }
  const isFirst = inheritance.isFirst && watch === undefined
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
    if (isFirst) installation.generation = session.generation + 1
    const onStarted = (indexes: number[]) => session.tell({ type: 'started', connections: indexes })
    resume(installation, taken, onStarted, watch === undefined ? undefined : (error) => inheritance.note(error))
    if (isFirst) serveAll(installation, session)
    timer.end('resume')
    env.fault('successor-before-resumed')
    session.tell({ type: 'resumed' })
  })
  landing.clear()
  inheritance.take(arrived, taken, timer, isFirst)
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
export function serveAll(installation: Installation, session: Session): void {
  const { claimed, leftovers } = session
  serveClaimed(installation, session)
  if (leftovers.size > 0) installation.leftovers ??= new LeftoverListeners(installation)
  for (const [key, fd] of leftovers) installation.leftovers?.accept(key, fd, claimed.get(key) as AttachedServer)
  leftovers.clear()
}

/** What was claimed, of a predecessor or of what one has left. */
export function serveClaimed(installation: Installation, { claimed, datagrams }: Pick<Session, 'claimed' | 'datagrams'>): void {
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

/** Fewer are taken over before the young generation is full. */
const WORTH_COLLECTING = 1_000
const FIRST_RETRY_MS = 50
/** @note EX_SOFTWARE of sysexits.h: an internal error. */
const EXIT_SOFTWARE = 70
