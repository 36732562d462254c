import { readFileSync } from 'node:fs'
import { connectPeer, type Peer } from '../channel/peer.js'
import { controlDirectory, controlSocketPath, startOf } from '../channel/rendezvous.js'
import type { Installation } from '../installation.js'
import { placeOf } from '../slot.js'
import { freeze } from './freeze.js'

/** Whether anything of this worker would move. What a server carries for all its connections would meet what the younger worker carries by now. */
export function hasSomethingToGive(installation: Installation): boolean {
  const { servers, carried, lifecycle, isInheriting, desk } = installation
  if (!lifecycle.isOwner || isInheriting || desk.busyWith) return false
  for (const { server } of servers) for (const _ of carried.ofServer(server)) return false
  const claimed = new Set([...servers].filter(({ isShared }) => isShared).map(({ key }) => key))
  const scope = { claimed, whyUnmigratable: () => undefined, only: undefined, limit: 1, more: 0, isRehearsal: true }
  return freeze(installation, scope).moving.length > 0
}

/** Resolves once one has taken over, or none does. */
export async function findHeir(installation: Installation): Promise<void> {
  for (const pid of youngerSiblings()) if (await invite(installation, pid)) return
}

/** Youngest first. @note proc_tid_children(5): the children of the primary's main thread, which forks. */
function youngerSiblings(): number[] {
  let children: number[]
  try {
    children = readFileSync(`/proc/${process.ppid}/task/${process.ppid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
  } catch {
    return [] // a kernel without it
  }
  const own = startOf(process.pid) ?? 0
  const starts = children.map((pid) => ({ pid, start: startOf(pid) ?? 0 }))
  const younger = starts.filter(({ pid, start }) => start > own || (start === own && pid > process.pid))
  return younger.sort((a, b) => b.start - a.start || b.pid - a.pid).map(({ pid }) => pid)
}

/** Asks one worker to come; whether it has taken over. */
async function invite(installation: Installation, pid: number): Promise<boolean> {
  const { env, desk } = installation
  let peer: Peer
  try {
    peer = connectPeer(env.native, controlSocketPath(controlDirectory(env.environment), placeOf(pid)), INVITE_TIMEOUT)
  } catch {
    return false // it has no library, or does not listen yet
  }
  let timeout: NodeJS.Timeout | undefined
  try {
    return await new Promise<boolean>((resolve) => {
      desk.watch({ token: '', succeeded: () => resolve(true), failed: () => resolve(false) })
      peer.channel.listen({ onMessage: () => resolve(false), onClose: () => desk.busyWith || resolve(false) })
      peer.channel.send({ type: 'come', address: placeOf(process.pid) }, { timeoutMs: INVITE_TIMEOUT })
      timeout = setTimeout(() => desk.busyWith?.hasCommitted || resolve(false), INVITE_TIMEOUT)
    })
  } catch {
    return false // it has just died
  } finally {
    clearTimeout(timeout)
    desk.watch(undefined)
    peer.channel.close()
    peer.closePidfd()
  }
}

/** A worker that serves answers at once, and takes over within much less. */
const INVITE_TIMEOUT = 5_000
