import type { Socket } from 'node:net'
import type { AttachedServer } from '../attached-server.js'
import type { Installation } from '../installation.js'
import { fdOf } from '../native/net-internals.js'
import { reasonToStay } from '../protocols/raw.js'

/** A connection that is about to move. */
export interface MovingConnection {
  readonly socket: Socket
  readonly fd: number
  /** `undefined` for a socket that only carried state refers to, such as a proxy's upstream. */
  readonly attached: AttachedServer | undefined
}

export interface StayingConnection {
  readonly socket: Socket
  readonly attached: AttachedServer
  readonly reason: string
  /** Ended at once rather than drained. */
  readonly close: boolean
}

/** What one handover is about. Nothing in this process has changed when it is made. */
export interface Frozen {
  readonly moving: MovingConnection[]
  readonly staying: StayingConnection[]
  /** Servers whose listener the successor claimed. */
  readonly claimed: AttachedServer[]
  /** Servers whose listener nobody claimed: they are drained. */
  readonly unclaimed: AttachedServer[]
}

/**
 * Decides what moves. The freeze itself needs no act: this runs in one synchronous block with everything up to commit, and while the
 * event loop does not run nothing is read, written or accepted. Its inverse, `thaw`, is to return.
 */
export function freeze(installation: Installation, claimedKeys: ReadonlySet<string>, unmigratable: ReadonlyMap<string, string>): Frozen {
  const frozen: Frozen = { moving: [], staying: [], claimed: [], unclaimed: [] }
  for (const [attached, sockets] of installation.finder.find(installation.servers)) {
    const claimed = claimedKeys.has(attached.key)
    if (attached.key !== '') (claimed ? frozen.claimed : frozen.unclaimed).push(attached)
    for (const socket of sockets) {
      const verdict = claimed ? judge(installation, attached, socket, unmigratable) : 'the new version does not listen on its address'
      if (verdict === undefined) frozen.moving.push({ socket, fd: fdOf(socket), attached })
      else frozen.staying.push({ socket, attached, reason: verdict, close: verdict === CLOSED_BY_POLICY })
    }
  }
  return frozen
}

const CLOSED_BY_POLICY = 'policy: close'

function judge(
  installation: Installation,
  attached: AttachedServer,
  socket: Socket,
  unmigratable: ReadonlyMap<string, string>,
): string | undefined {
  if (attached.kind !== 'raw') return attached.kind === 'http' ? 'HTTP connections drain' : 'TLS and HTTP/2 connections drain'
  const reason = reasonToStay(socket)
  if (reason) return reason
  for (const [name] of installation.carried.everythingOf(socket)) {
    const why = unmigratable.get(name)
    if (why) return why
  }
  try {
    const decision = attached.options.policy(socket)
    if (decision === 'move') return undefined
    return decision === 'close' ? CLOSED_BY_POLICY : 'policy: drain'
  } catch (error) {
    installation.env.log(`policy() threw for a connection, which drains: ${String(error)}`)
    return 'policy threw'
  }
}
