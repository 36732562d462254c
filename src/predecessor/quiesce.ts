import type { Socket } from 'node:net'
import type { AttachedServer } from '../attached-server.js'
import type { Installation } from '../installation.js'
import { fdOf, resumeReading } from '../native/net-internals.js'
import { judge } from './judge.js'

/**
 * Where server-wide state is carried, a handler that is at work could still change it after it was read. So nothing new is read while handlers
 * that hold their connection by `defer` come to an end, for QUIESCE_MS at most; whoever outlives that stays behind, and the report says so.
 * Calls `freeze` from a fresh macrotask, with what undoes the quiet if the handover is given up.
 */
export function quiesce(installation: Installation, freeze: (thaw: () => void) => void): void {
  const { carried, flow, holds, servers, finder, env, protocols } = installation
  flow.finish() // what came a moment ago from a predecessor of our own
  const isAwaited = holds.size > 0 && carried.hasServerState([...servers].map(({ server }) => server))
  if (!isAwaited && !protocols.areTogether()) return void setImmediate(() => freeze(() => {}))
  const sockets = [...finder.find(servers).values()].flat()
  env.native.stopReading(Int32Array.from(sockets.map(fdOf).filter((fd) => fd >= 0)))
  const thaw = () => {
    for (const socket of sockets) if (!socket.destroyed) resumeReading(socket)
  }
  if (!isAwaited) return protocols.rest(() => freeze(thaw))
  const timer = setTimeout(proceed, QUIESCE_MS)
  const stop = holds.onRelease(() => {
    if (holds.size === 0) proceed()
  })

  function proceed(): void {
    clearTimeout(timer)
    stop()
    protocols.rest(() => freeze(thaw))
  }
}

/**
 * Before this process leaves for good, since nobody passes on what its handlers write afterwards: nothing new is read, what is in the middle of something
 * comes to its boundary, and where only the application knows whether it is at work nothing may have been written for QUIET_MS. All that for QUIESCE_MS at
 * most. Where nobody can be at work `freeze` is called at once, before this returns.
 */
export function quiesceAll(installation: Installation, servers: ReadonlySet<AttachedServer>, freeze: (thaw: () => void) => void): void {
  const { finder, flow, env, protocols } = installation
  flow.finish()
  const found = [...finder.find(servers)].flatMap(([attached, sockets]) => sockets.map((socket) => ({ attached, socket })))
  const busy = new Set(found.filter(isInTheMiddle))
  const opaque = found.filter(({ attached, socket }) => protocols.of(socket, attached)?.kind !== undefined).map(({ socket }) => socket)
  if (busy.size === 0 && opaque.length === 0 && !protocols.areTogether()) return freeze(() => {})
  const idle = found.filter((connection) => !busy.has(connection)).map(({ socket }) => socket)
  env.native.stopReading(Int32Array.from(idle.map(fdOf).filter((fd) => fd >= 0)))
  const end = env.now() + QUIESCE_MS
  let written = bytesWritten(opaque)
  let quietSince = env.now()
  const timer = setInterval(() => {
    for (const connection of busy) if (!isInTheMiddle(connection)) busy.delete(connection)
    const now = env.now()
    const writtenNow = bytesWritten(opaque)
    if (writtenNow !== written) quietSince = now
    written = writtenNow
    if ((busy.size > 0 || (opaque.length > 0 && now - quietSince < QUIET_MS)) && now < end) return
    clearInterval(timer)
    const thaw = () => {
      for (const socket of idle) if (!socket.destroyed) resumeReading(socket)
    }
    if (protocols.areTogether()) protocols.rest(() => freeze(thaw))
    else freeze(thaw)
  }, LOOK_MS)

  function isInTheMiddle({ attached, socket }: { attached: AttachedServer; socket: Socket }): boolean {
    const verdict = socket.destroyed ? undefined : judge(installation, attached, socket, REHEARSAL)
    return verdict !== undefined && 'fate' in verdict && verdict.fate === 'later'
  }
}

function bytesWritten(sockets: readonly Socket[]): number {
  return sockets.reduce((sum, socket) => sum + (socket.destroyed ? 0 : socket.bytesWritten), 0)
}

const QUIESCE_MS = 250
const QUIET_MS = 50
const LOOK_MS = 5
const REHEARSAL = { whyUnmigratable: () => undefined, isRehearsal: true }
