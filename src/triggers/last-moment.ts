import type { Slot } from '../slot.js'

/** Milliseconds until shortly before a supervisor stops the old worker in any case, whether or not this one is ready; Infinity where none does. */
export function untilLastMoment(slot: Slot | undefined): number {
  if (slot?.listenTimeout === undefined) return Number.POSITIVE_INFINITY
  return Math.max(0, slot.listenTimeout - process.uptime() * 1000 - MARGIN_MS)
}

export function lastMoment(slot: Slot | undefined): Promise<void> {
  const left = untilLastMoment(slot)
  return new Promise((resolve) => {
    if (Number.isFinite(left)) setTimeout(resolve, left).unref()
  })
}

const MARGIN_MS = 500
