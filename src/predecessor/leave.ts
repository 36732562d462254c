import type { AttachedServer } from '../attached-server.js'
import type { Phase } from '../handover/phase.js'
import { type HandoverReport, PhaseTimer, publishReport, reportLine, Tally } from '../handover/report.js'
import type { Bundle, HolderName, Put } from '../holders/holder.js'
import { putIntoFirst } from '../holders/holders.js'
import type { Installation } from '../installation.js'
import { datagramFdOf, giveEmptyHandle, serverFdOf, serverHandleOf } from '../native/net-internals.js'
import type { OnExit } from '../options.js'
import { DISCARD } from '../protocols/protocol.js'
import { VERSION } from '../version.js'
import { Drain, stopListening } from './drain.js'
import { type Frozen, freeze } from './freeze.js'
import { copyDescriptors, type Handed, letGo, release } from './release.js'
import { type Snapshot, snapshot } from './snapshot.js'

/** Servers whose connections are to be left, and by whose wish; and UDP sockets, by key. */
export interface Wishes {
  readonly servers: ReadonlyMap<AttachedServer, Exclude<OnExit, 'none'>>
  readonly datagrams: ReadonlySet<string>
}

/** What became of this process's connections. */
export interface Left {
  readonly put: Put
  readonly report: HandoverReport
  /** How many connections. */
  readonly connections: number
  /** What could not be put, and is served until it ends or this process does; why, for each. */
  readonly drain: Drain
  readonly staying: readonly string[]
}

/**
 * The predecessor's half where no successor is there: what a live handover would send goes to a holder, and the next start finds it. One synchronous
 * block, from a signal handler or from process.on('exit'). Until `put` returns nothing of this process has changed; from then on it is silent, and what
 * its application still writes is dropped: nobody could tell it from a good-bye. `undefined`: nobody took anything, and this process serves on.
 */
export function leave(installation: Installation, wishes: Wishes): Left | undefined {
  const { env } = installation
  const timer = new PhaseTimer(env.now)
  let phase: Phase = 'freeze'
  try {
    env.fault('predecessor-before-freeze')
    const frozen = freezeServers(installation, wishes)
    if (frozen.listeners.length + frozen.shared.length + frozen.datagrams.size === 0) return undefined
    installation.survival?.letGo() // its copies would keep open what the holder closes
    timer.end(phase)
    phase = 'snapshot'
    const taken = snapshotMovable(installation, frozen)
    timer.end(phase)
    phase = 'send'
    const copies = copyDescriptors(installation, frozen, taken, NONE_KEPT)
    env.fault('predecessor-before-put')
    const onExit = wishes.datagrams.size > 0 || [...wishes.servers.values()].includes('hold') ? 'hold' : 'snapshot'
    const put = putIntoFirst(installation, onExit, bundle(installation, frozen, taken)) // the commit point: before it nothing has changed, after it nothing is undone
    if (put === undefined) {
      env.native.closeFds(Int32Array.from([...copies.listeners, ...copies.connections.values()]))
      installation.survival?.begin()
      return undefined
    }
    env.fault('predecessor-after-put')
    timer.end(phase)
    return goSilent(installation, { frozen, snapshot: taken, kept: NONE_KEPT, copies }, put, timer)
  } catch (error) {
    installation.survival?.begin()
    env.log(`the connections were not left to the next start, and drain: in phase ${phase}, ${(error as Error).message}`)
    return undefined
  }
}

/** Where nobody takes anything: no new connections, and those that are here get their time to end. */
export function drainInstead(installation: Installation, servers: ReadonlySet<AttachedServer>): Drain {
  stopListening(servers)
  installation.timers.mute()
  const drain = drainOf(installation, servers)
  drain.add([...installation.finder.find(servers).values()].flat())
  return drain
}

/** Only servers that ask for it; the others are left as if this library were not there. */
function freezeServers(installation: Installation, { servers: wishes, datagrams }: Wishes): Frozen {
  const claimed = new Set(
    [...wishes.keys()].filter(({ key, server }) => key !== '' && serverHandleOf(server) !== null).map(({ key }) => key),
  )
  for (const key of datagrams) claimed.add(key)
  const frozen = freeze(installation, { claimed, whyUnmigratable: anyVersion, only: undefined, limit: Number.POSITIVE_INFINITY, more: 0 })
  return { ...frozen, staying: frozen.staying.filter(({ attached }) => claimed.has(attached.key)), unclaimed: [] }
}

/** Nobody is there who could say what it can migrate: the successor looks at the versions when it restores. */
function anyVersion(): undefined {}

/** A connection that turns out not to be movable is not sent at all: a holder would end it at the end of its time. */
function snapshotMovable(installation: Installation, frozen: Frozen): Snapshot {
  for (;;) {
    const taken = snapshot(installation, frozen, 0)
    if (taken.held.size === 0) return taken
    const { moving } = frozen
    for (const [index, reason] of taken.held) {
      const { socket, attached } = moving[index] as (typeof moving)[number]
      if (attached) frozen.staying.push({ socket, attached, reason, fate: 'drain' })
    }
    const kept = moving.filter(({ attached }, index) => attached && !taken.held.has(index)) // others join again by whoever carries them
    moving.splice(0, moving.length, ...kept)
  }
}

function bundle(installation: Installation, frozen: Frozen, { record, segments, fds }: Snapshot): Bundle {
  const { staying, datagrams } = frozen
  const [listeners, shared] = [[...frozen.listeners].filter(({ isShared }) => !isShared), sharedOf(frozen)]
  return {
    bequest: {
      type: 'bequest',
      pid: process.pid,
      generation: installation.generation,
      version: VERSION,
      node: process.version,
      leftAt: Date.now(),
      connections: record.count,
      listeners: listeners.map(({ key, path, backlog }) => ({ key, path, backlog })),
      shared: shared.map(({ key }) => key),
      slot: shared.length > 0 ? (installation.slot?.key ?? '') : '',
      datagrams: [...datagrams.keys()],
    },
    listeners: Int32Array.from(listeners, ({ server }) => serverFdOf(server)),
    datagrams: Int32Array.from(datagrams.values(), datagramFdOf),
    record,
    segments,
    fds,
    staying: staying.length,
  }
}

/** Those whose listener is the primary's; where it has given this worker a copy of that, it is among the listeners. */
function sharedOf({ listeners, shared }: Frozen): AttachedServer[] {
  return [...shared, ...listeners.filter(({ isShared }) => isShared)]
}

function goSilent(installation: Installation, handed: Handed, put: Put & { holder: { name: HolderName } }, timer: PhaseTimer): Left {
  const { frozen, snapshot: taken } = handed
  installation.timers.mute()
  letGo(
    installation,
    release(installation, handed, () => DISCARD),
  )
  timer.end('commit')
  const servers = [...frozen.listeners, ...frozen.shared]
  for (const { server } of servers) giveEmptyHandle(server) // its own shutdown code closes it, and would be told that it does not run
  installation.datagrams.unref()
  installation.desk.close()
  // A successor that is booting finds them there as well.
  installation.desk.busyWith?.giveUp(new Error(`the connections were left with the ${put.holder.name}`))
  installation.lifecycle.retire()
  const drain = drainOf(installation, new Set(servers))
  drain.add(frozen.staying.map(({ socket }) => socket))
  const tally = new Tally()
  for (const { rule } of frozen.moving) tally.move(rule)
  for (const { reason } of frozen.staying) tally.stay(reason)
  tally.bytes(taken.unreadBytes, taken.unsentBytes, taken.record.graph.length)
  tally.time(timer.phases)
  const report: HandoverReport = {
    role: 'predecessor',
    generation: installation.generation + 1,
    predecessor: process.pid,
    successor: 0,
    holder: put.holder.name,
    listeners: [...servers.map(({ key }) => key), ...frozen.datagrams.keys()],
    ...tally.figures(),
    unclaimedState: [],
  }
  installation.env.log(`${reportLine(report)} (${put.where})`)
  publishReport(report)
  return { put, report, connections: frozen.moving.length, drain, staying: frozen.staying.map(({ reason }) => reason) }
}

function drainOf(installation: Installation, servers: ReadonlySet<AttachedServer>): Drain {
  return new Drain(
    { protocols: installation.protocols, servers, attachedTo: (server) => installation.attachedTo(server) },
    () => false,
    () => {},
  )
}

const NONE_KEPT: ReadonlyMap<number, string> = new Map()
