import type { Installation } from '../installation.js'
import { freeze, type Scope } from './freeze.js'
import { snapshot } from './snapshot.js'

/**
 * Runs what the frozen block is about to run, on some connections at a time, and throws the result away: it only looks. V8 compiles what has run some
 * thousand times; before, it takes several times as long, and the server would stand still for that. Between two rounds the loop turns.
 */
export async function rehearse(installation: Installation, scope: Scope): Promise<void> {
  const rehearsal = { ...scope, limit: Math.min(scope.limit, CONNECTIONS), isRehearsal: true }
  const end = installation.env.now() + REHEARSAL_MS
  let seen = 0
  while (seen < ENOUGH && installation.env.now() < end) {
    try {
      const frozen = freeze(installation, rehearsal)
      if (frozen.moving.length === 0) return
      snapshot(installation, frozen, 0)
      seen += frozen.moving.length
    } catch (error) {
      // The handover itself will say what is wrong, to those who have to know.
      installation.env.log(`the rehearsal failed: ${(error as Error).message}`)
      return
    }
    await new Promise((resolve) => setImmediate(resolve))
  }
}

/** One to two milliseconds of the event loop for each round. */
const CONNECTIONS = 250
const ENOUGH = 10_000
const REHEARSAL_MS = 200
