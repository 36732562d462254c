import type { Installation } from '../installation.js'
import { freeze, type Scope } from './freeze.js'
import { snapshot } from './snapshot.js'

/**
 * Runs what the frozen block is about to run on some connections and throws the result away: it only looks. Code that runs for the first time
 * takes several times as long, and the server would stand still for that.
 */
export function rehearse(installation: Installation, scope: Scope): void {
  for (let round = 0; round < ROUNDS; round++) {
    try {
      snapshot(installation, freeze(installation, { ...scope, limit: Math.min(scope.limit, CONNECTIONS), isRehearsal: true }), 0)
    } catch (error) {
      // The handover itself will say what is wrong, to those who have to know.
      installation.env.log(`the rehearsal failed: ${(error as Error).message}`)
      return
    }
  }
}

const ROUNDS = 4
/** Some milliseconds of the event loop for each round. */
const CONNECTIONS = 200
