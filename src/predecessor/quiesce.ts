import type { Installation } from '../installation.js'
import { fdOf, resumeReading } from '../native/net-internals.js'

/**
 * Where server-wide state is carried, a handler that is at work could still change it after it was read. So nothing new is read while handlers
 * that hold their connection by `defer` come to an end, for QUIESCE_MS at most; whoever outlives that stays behind, and the report says so.
 * Calls `freeze` from a fresh macrotask, with what undoes the quiet if the handover is given up.
 */
export function quiesce(installation: Installation, freeze: (thaw: () => void) => void): void {
  const { carried, holds, servers, finder, env } = installation
  const isNeeded = holds.size > 0 && carried.hasServerState([...servers].map(({ server }) => server))
  if (!isNeeded) return void setImmediate(() => freeze(() => {}))
  const sockets = [...finder.find(servers).values()].flat()
  env.native.stopReading(Int32Array.from(sockets.map(fdOf).filter((fd) => fd >= 0)))
  const thaw = () => {
    for (const socket of sockets) if (!socket.destroyed) resumeReading(socket)
  }
  const timer = setTimeout(proceed, QUIESCE_MS)
  const stop = holds.onRelease(() => {
    if (holds.size === 0) proceed()
  })

  function proceed(): void {
    clearTimeout(timer)
    stop()
    setImmediate(() => freeze(thaw))
  }
}

const QUIESCE_MS = 250
