import type { Canary } from './channel/messages.js'
import { misuse } from './errors.js'
import { seconds } from './options.js'

/**
 * How many connections the new version gets at first, without the listeners, and for how many milliseconds it is watched before it gets the rest:
 * `TSUNAGI_CANARY`, 1 or more, and `TSUNAGI_WATCH`, in seconds. @default none, 10 s
 */
export function canaryWish(environment: NodeJS.ProcessEnv): Canary {
  const { TSUNAGI_CANARY: given } = environment
  const watch = seconds(environment, 'TSUNAGI_WATCH', DEFAULT_WATCH_MS)
  if (given === undefined || given === '') return { connections: 0, watch: Math.round(watch) }
  return checkedCanary(Number(given), watch, `TSUNAGI_CANARY is a number of connections, 1 or more, not "${given}".`)
}

/** The same as `reload` takes it; `undefined`: the new version's own setting counts. */
export function canaryOption({ canary, watch = DEFAULT_WATCH_MS }: { canary?: number; watch?: number }): Canary | undefined {
  if (canary === undefined) return undefined
  if (!Number.isFinite(watch) || watch < 0)
    throw misuse('ERR_TSUNAGI_OPTION', `The option "watch" of reload() is a number of milliseconds, not ${String(watch)}.`)
  return checkedCanary(canary, watch, `The option "canary" of reload() is a number of connections, 1 or more, not ${String(canary)}.`)
}

function checkedCanary(connections: number, watch: number, otherwise: string): Canary {
  if (!Number.isSafeInteger(connections) || connections < 1) throw misuse('ERR_TSUNAGI_OPTION', otherwise)
  return { connections, watch: Math.round(watch) }
}

const DEFAULT_WATCH_MS = 10_000
