import { participant } from './attach.js'
import { Lifecycle } from './lifecycle.js'

/** A worker thread owns what it has from the start. */
const alone = ownedFromStart()

function ownedFromStart(): Lifecycle {
  const lifecycle = new Lifecycle()
  lifecycle.own()
  return lifecycle
}

/**
 * Resolves when this process serves: at once where it has no predecessor, else at the handover. Start cron jobs, consumers and leader work after it.
 * Asking says that this code has done what it has to do before it can serve; give `ready` a promise for what is still under way elsewhere.
 */
export function owned(): Promise<void> {
  return lifecycle().askForOwnership()
}

/**
 * Declares this process ready to take over: now, or once `until` has resolved (call it while the main module is evaluated).
 * Without it a process is ready when its main module is evaluated, every `listen()` has called back, and a quiet turn has passed.
 */
export function ready(until?: Promise<unknown>): void {
  lifecycle().ready(until)
}

/** Aborted once another process serves: stop cron jobs, consumers and leader work. */
export const retiring: AbortSignal = lifecycle().retiring

function lifecycle(): Lifecycle {
  return participant()?.lifecycle ?? alone
}
