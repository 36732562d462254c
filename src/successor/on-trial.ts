import type { AttachedServer } from '../attached-server.js'
import { TsunagiError } from '../errors.js'
import type { HandoverReport } from '../handover/report.js'
import type { Installation } from '../installation.js'
import { newToken } from '../triggers/spawn.js'
import type { Inheritance } from './inheritance.js'
import { askHealth } from './probe-health.js'
import { isEndOfChannel, type Session } from './session.js'
import { Trouble } from './trouble.js'

/** What a successor on trial gives back, and to whom: only the process that asks for `key` gets it. */
export interface Lent {
  readonly key: string
  /** Our server in the place of the predecessor's. */
  serverAt(theirKey: string): AttachedServer | undefined
  /** Nothing of it is left here. */
  readonly onLeft: () => void
}

/**
 * This process has a few of the predecessor's connections and nothing else. It has to be well for `watch` milliseconds, and then `takeRest`; else it gives them
 * back, the way it would hand over to a successor, and throws ERR_TSUNAGI_CANARY. The predecessor hears that it lives as long as that takes.
 */
export async function onTrial(
  installation: Installation,
  session: Session,
  inheritance: Inheritance,
  watch: number,
  takeRest: () => Promise<void>,
): Promise<void> {
  const trouble = new Trouble(inheritance)
  const alive = setInterval(() => session.tell({ type: 'well' }), ALIVE_MS)
  const stopTelling = tellEnds(session, inheritance)
  session.listen()
  try {
    await Promise.race([beWell(installation, session, trouble, watch), session.failed])
    trouble.close()
    await takeRest()
  } catch (error) {
    trouble.close()
    if (isEndOfChannel(error) && session.peer.provesDeath(DEATH_TIMEOUT)) throw error // nobody else is there: this process serves alone
    throw await giveBack(installation, session, error as Error)
  } finally {
    clearInterval(alive)
    stopTelling()
  }
}

/** Resolves when `watch` milliseconds are over; rejects with what is wrong. */
async function beWell(installation: Installation, { claimed }: Session, trouble: Trouble, watch: number): Promise<void> {
  const { env } = installation
  const end = env.now() + watch
  for (;;) {
    const flaw = trouble.first ?? (await askHealth(installation, claimed.values())) ?? trouble.first
    if (flaw !== undefined) throw new Error(flaw)
    if (env.now() >= end || trouble.closed) return
    await new Promise((resolve) => setTimeout(resolve, Math.max(1, Math.min(LOOK_MS, end - env.now()))))
  }
}

/** What the predecessor still holds of these connections would keep them open. Returns how to stop telling. */
function tellEnds(session: Session, inheritance: Inheritance): () => void {
  const removals = [...inheritance.sockets].map(([number, socket]) => {
    const socketOnClose = () => session.tell({ type: 'gone', connections: [number] })
    if (socket.destroyed) socketOnClose()
    else socket.once('close', socketOnClose)
    return () => socket.off('close', socketOnClose)
  })
  return () => {
    for (const remove of removals) remove()
  }
}

/** Resolves with the error that ends this process's trial, when it has nothing left of what it was lent. Where that cannot be, this process ends. */
async function giveBack(installation: Installation, session: Session, { message: reason }: Error): Promise<TsunagiError> {
  const { desk, env } = installation
  const key = `lent ${process.pid} ${newToken()}`
  try {
    if (!session.channel.closed) session.listen()
    await new Promise<void>((onLeft, failed) => {
      installation.lent = { key, serverAt: (theirKey) => session.claimed.get(theirKey), onLeft }
      desk.publish(key)
      desk.watch({ token: key, succeeded: (_: HandoverReport) => {}, failed })
      session.failed.catch((error) => installation.lifecycle.retiring.aborted || failed(error))
      session.tell({ type: 'come', address: key, reason: reason.slice(0, LONGEST_REASON) })
    })
  } catch (error) {
    installation.lent = undefined
    if (session.peer.provesDeath(DEATH_TIMEOUT)) await session.failed
    env.log(`${reason}. Its connections could not be given back: ${(error as Error).message}. This process ends.`)
    process.exit(EXIT_FAILED)
  }
  return new TsunagiError(
    'ERR_TSUNAGI_CANARY',
    `This version was watched with a few connections, and has given them back to process ${session.predecessor}: ${reason}. That goes on serving.`,
    { phase: 'settle', serving: true },
  )
}

/** The predecessor waits for much longer. */
const ALIVE_MS = 1_000
const LOOK_MS = 500
/** A process that dies closes its descriptors a moment before it counts as dead, ms. */
const DEATH_TIMEOUT = 1_000
const LONGEST_REASON = 2_000
const EXIT_FAILED = 1
