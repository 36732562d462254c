import type { Installation } from '../installation.js'
import type { OnExit } from '../options.js'
import type { Bundle, Held, Holder, Put } from './holder.js'
import { inPlace } from './in-place.js'
import { keeper } from './keeper.js'
import { snapshotFile } from './snapshot-file.js'
import { systemdStore } from './systemd.js'

/** Every holder, in the order in which they are asked. */
const HOLDERS: readonly Holder[] = [inPlace, systemdStore, keeper, snapshotFile]

/** Who may be asked for which wish; 'hold' falls through to the snapshot. */
const FOR: Record<Exclude<OnExit, 'none'>, ReadonlySet<string>> = {
  hold: new Set(['in place', 'systemd', 'keeper', 'snapshot']),
  snapshot: new Set(['snapshot']),
}

/**
 * At the start, where everything is still on disk; and whoever counts on a holder hears that there is none before it is needed. What a holder has to set up is set
 * up with the question.
 */
export function prepareHolders(installation: Installation, onExit: Exclude<OnExit, 'none'>, holders = HOLDERS): void {
  const reasons: string[] = []
  for (const holder of holders) {
    if (!FOR[onExit].has(holder.name)) continue
    holder.prepare?.(installation)
    const reason = holder.unavailable(installation)
    if (reason === undefined) return
    reasons.push(`${holder.name}: ${reason}`)
  }
  installation.env.log(`when this process ends its connections will drain, although "${onExit}" is asked for (${reasons.join('; ')})`)
}

/** Puts a bundle into the first holder that takes it; `undefined` where none does, which has been said. */
export function putIntoFirst(
  installation: Installation,
  onExit: Exclude<OnExit, 'none'>,
  bundle: Bundle,
  holders = HOLDERS,
): (Put & { holder: Holder }) | undefined {
  const reasons: string[] = []
  for (const holder of holders) {
    if (!FOR[onExit].has(holder.name)) continue
    const reason = holder.unavailable(installation)
    if (reason !== undefined) {
      reasons.push(`${holder.name}: ${reason}`)
      continue
    }
    try {
      return { ...holder.put(installation, bundle), holder }
    } catch (error) {
      reasons.push(`${holder.name}: ${(error as Error).message}`)
    }
  }
  installation.env.log(`nobody takes the connections until the next start (${reasons.join('; ')}): they drain`)
  return undefined
}

/** The first that has something for this address. Where the address is free, only those are asked that do not keep listeners. */
export function findHeld(installation: Installation, key: string, isTaken: boolean, holders = HOLDERS): Held | undefined {
  for (const holder of holders) {
    if (holder.keepsListeners !== isTaken) continue
    const held = holder.find(installation, key)
    if (held) return held
  }
  return undefined
}
