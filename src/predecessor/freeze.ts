import type { Socket as DatagramSocket } from 'node:dgram'
import type { Socket } from 'node:net'
import type { AttachedServer } from '../attached-server.js'
import type { Installation } from '../installation.js'
import { fdOf, isOfPrimary, serverHandleOf } from '../native/net-internals.js'
import type { Protocol } from '../protocols/protocol.js'
import type { Ahead } from './ahead.js'
import { type Fate, judge } from './judge.js'
import type { WhyUnmigratable } from './negotiate.js'

/** A connection that is about to move. */
export interface MovingConnection {
  readonly socket: Socket
  readonly fd: number
  /** `undefined` for a socket that only carried state refers to, such as a proxy's upstream. */
  readonly attached: AttachedServer | undefined
  readonly protocol: Protocol
  /** What asked for it to move. */
  readonly rule: string
  /** Its place among those whose descriptor the successor has already, -1: it has not. */
  readonly place: number
}

export interface StayingConnection {
  readonly socket: Socket
  readonly attached: AttachedServer
  readonly reason: string
  readonly fate: Fate
}

/** What one transaction is about. Nothing in this process has changed when it is made. */
export interface Frozen {
  readonly moving: MovingConnection[]
  readonly staying: StayingConnection[]
  /** Connections that can move, beyond what this transaction takes. */
  readonly waiting: Socket[]
  /** Servers that the successor claimed, in the record's order. */
  readonly servers: AttachedServer[]
  /** Those of them whose listener moves now. */
  readonly listeners: AttachedServer[]
  /** Those whose listener is the cluster's primary's: it gives this worker no more connections. */
  readonly shared: AttachedServer[]
  /** UDP sockets that move now, by key. */
  readonly datagrams: Map<string, DatagramSocket>
  /** Servers whose listener nobody claimed: they are drained. */
  readonly unclaimed: AttachedServer[]
  readonly ahead: Ahead | undefined
}

/** What a transaction covers. */
export interface Scope {
  readonly claimed: ReadonlySet<string>
  /** Why the successor cannot take what a connection carries under a name in a version; `undefined`: it can. */
  readonly whyUnmigratable: WhyUnmigratable
  /** The first transaction hands the listeners over and decides for every connection; a later one moves some of these. */
  readonly only: ReadonlySet<Socket> | undefined
  /** Most connections that move at once. */
  readonly limit: number
  /** Connections that are to follow in further transactions. */
  readonly more: number
  /** Descriptors that the successor has already. */
  readonly ahead?: Ahead | undefined
  /** Nothing will move: the application's policy is not asked. */
  readonly isRehearsal?: boolean
}

/**
 * Decides what moves. The freeze itself needs no act: this runs in one synchronous block with everything up to commit, and while the
 * event loop does not run nothing is read, written or accepted. Its inverse, `thaw`, is to return.
 */
export function freeze(installation: Installation, scope: Scope): Frozen {
  const { claimed, only, limit, ahead } = scope
  const frozen: Frozen = {
    moving: [],
    staying: [],
    waiting: [],
    servers: [],
    listeners: [],
    shared: [],
    datagrams: only ? new Map() : installation.datagrams.socketsAt(claimed),
    unclaimed: [],
    ahead,
  }
  for (const attached of installation.servers) {
    const isClaimed = claimed.has(attached.key)
    if (isClaimed) frozen.servers.push(attached)
    // The application may have closed its listener since the successor asked for it.
    const handle = only || attached.key === '' ? null : serverHandleOf(attached.server)
    if (handle && !isClaimed) frozen.unclaimed.push(attached)
    else if (handle) (isOfPrimary(handle) ? frozen.shared : frozen.listeners).push(attached)
  }
  for (const [attached, sockets] of only ? installation.groupByServer(only) : installation.finder.find(installation.servers)) {
    const isClaimed = claimed.has(attached.key)
    for (const socket of sockets) {
      if (frozen.moving.length >= limit) {
        frozen.waiting.push(socket) // its turn to be judged comes with a later batch
        continue
      }
      const verdict = isClaimed ? judge(installation, attached, socket, scope) : UNCLAIMED
      if ('reason' in verdict) frozen.staying.push({ socket, attached, ...verdict })
      else {
        const { protocol, rule } = verdict
        frozen.moving.push({ socket, fd: fdOf(socket), attached, protocol, rule, place: ahead ? ahead.placeOf(socket) : -1 })
      }
    }
  }
  return frozen
}

const UNCLAIMED = { reason: 'the new version does not listen on its address', fate: 'drain' } as const
