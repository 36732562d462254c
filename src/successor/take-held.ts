import type { Socket } from 'node:net'
import type { AttachedServer } from '../attached-server.js'
import { type HandoverReport, PhaseTimer, publishReport, reportLine, Tally } from '../handover/report.js'
import type { Held, Opened } from '../holders/holder.js'
import type { Installation } from '../installation.js'
import { fdOf } from '../native/net-internals.js'
import { Landing } from './landing.js'
import { makeRoom } from './make-room.js'
import { type Restored, restore } from './restore.js'
import { resume } from './resume.js'
import { serveClaimed } from './take-over.js'

/** What a holder has for this process, and which servers have claimed a part of it. */
export interface HeldSession {
  readonly held: Held
  readonly claimed: Map<string, AttachedServer>
  /** Keys of the UDP sockets that this process has a descriptor of. */
  readonly datagrams: Set<string>
}

/**
 * The successor's half where the predecessor has left before: from a holder, by the same restore and resume. Nobody serves the connections meanwhile, so
 * there is no rehearsal. From `commit` to `resumed` it is one synchronous block. Where it cannot be done the process serves all the same: what is held is
 * closed with its reason, or stays with the holder for the next start.
 */
export async function takeHeld(installation: Installation, session: HeldSession): Promise<void> {
  const { env } = installation
  const { held } = session
  await installation.whenReady()
  const timer = new PhaseTimer(env.now)
  const taken = open(installation, session, timer)
  if (taken === undefined) {
    held.close()
    return serveAlone(installation, session)
  }
  const { opened, landing, restored } = taken
  if (restored === undefined) {
    for (const index of opened.fds.keys()) endPolitely(installation, landing, index)
    held.resumed()
    landing.clear()
    return serveAlone(installation, session)
  }
  for (const index of restored.refused.keys()) endPolitely(installation, landing, index)
  env.fault('successor-after-commit')
  installation.generation = held.bequest.generation + 1
  resume(installation, restored, () => {})
  serveClaimed(installation, session)
  held.resumed()
  timer.end('resume')
  landing.clear()
  report(installation, session, opened, restored, timer)
  // Behind 'resumed', which is told on a tick of its own: whoever waits for owned() may look at what has come.
  process.nextTick(() => installation.lifecycle.own())
}

interface Taken {
  readonly opened: Opened
  readonly landing: Landing
  /** `undefined`: it is ours, and could not be restored. */
  readonly restored: Restored | undefined
}

/** Up to `commit` everything is still the holder's. `undefined`: it stays there. */
function open(installation: Installation, { held, claimed }: HeldSession, timer: PhaseTimer): Taken | undefined {
  const { env } = installation
  const who = `what process ${held.bequest.pid} has left with the ${held.holder}`
  let landing: Landing | undefined
  try {
    env.fault('successor-before-receive')
    makeRoom(installation, held.bequest.connections)
    const opened = held.open()
    landing = new Landing(env.native)
    landing.expect(opened.fds.length)
    landing.land(opened.fds)
    timer.end('receive')
    env.fault('successor-after-open')
    let restored: Restored | undefined
    try {
      restored = restore(installation, { record: opened.record, segments: opened.segments, landing }, claimed, opened)
      timer.end('restore')
    } catch (error) {
      // Of state that is nobody's yet this code cannot make its own; a connection without it would be another one than its client believes.
      env.log(`${who} was not taken over, and is closed: ${said(error)}`)
    }
    held.commit() // the commit point: from here nobody else has them
    timer.end('commit')
    return { opened, landing, restored }
  } catch (error) {
    landing?.dropAll()
    env.log(`${who} was not taken over: ${said(error)}`)
    return undefined
  }
}

function said(error: unknown): string {
  const { message, code } = error as NodeJS.ErrnoException
  return code ? `${message} (${code})` : message
}

function serveAlone(installation: Installation, session: HeldSession): void {
  serveClaimed(installation, session)
  installation.lifecycle.own()
}

/** There is no other process that would serve it on. */
function endPolitely({ env: { native } }: Installation, landing: Landing, index: number): void {
  const socket: Socket | undefined = landing.socket(index)
  if (socket) native.endConnections(Int32Array.of(fdOf(socket)))
  landing.drop(index)
}

function report(
  installation: Installation,
  { held, claimed, datagrams }: HeldSession,
  opened: Opened,
  restored: Restored,
  timer: PhaseTimer,
): void {
  const { bequest, holder } = held
  const tally = new Tally()
  tally.move('', restored.connections.length)
  for (const reason of restored.refused.values()) tally.stay(reason)
  tally.bytes(bytesOf(restored, 'unread'), bytesOf(restored, 'unsent'), opened.record.graph.length)
  tally.time(timer.phases)
  const made: HandoverReport = {
    role: 'successor',
    generation: installation.generation,
    predecessor: bequest.pid,
    successor: process.pid,
    holder,
    listeners: [...claimed.keys(), ...datagrams],
    ...tally.figures(),
    movedBy: [],
    unclaimedState: restored.unclaimedState,
  }
  installation.env.log(reportLine(made))
  publishReport(made)
  process.nextTick(() => {
    for (const attached of claimed.values()) attached.server.emit('resumed', made)
  })
}

function bytesOf({ connections }: Restored, kind: 'unread' | 'unsent'): number {
  return connections.reduce((sum, connection) => sum + (connection[kind] ?? []).reduce((bytes, piece) => bytes + piece.length, 0), 0)
}
