/**
 * A message is on its way through a broker for some turns of the loop, and then through others' connections. While nothing is read, all of them arrive;
 * then it is told what the broker holds.
 */
import type { Client } from './aedes.js'
import type { FollowedBroker } from './broker.js'
import { brokersInUse, followedOf } from './follow.js'
import { stopWaiting } from './session.js'

export function hasBrokers(): boolean {
  return brokers().size > 0
}

/** Calls back from a fresh macrotask, after LONGEST_MS in any case. */
export function restBrokers(onRest: () => void): void {
  const end = Date.now() + LONGEST_MS
  void untilRest(end).then(() => setImmediate(onRest))
}

async function untilRest(end: number): Promise<void> {
  do {
    await untilIdle(end)
    for (const { state, broker } of brokersInUse()) if (broker) Object.assign(state, await broker.collect())
  } while (!areIdle() && Date.now() < end) // somebody has published meanwhile
}

/** For some turns in a row: from one step to the next of what a broker does there may be one. */
async function untilIdle(end: number): Promise<void> {
  for (let idle = 0; idle < IDLE_TURNS && Date.now() < end; idle = areIdle() ? idle + 1 : 0) await new Promise(setImmediate)
}

function areIdle(): boolean {
  return [...brokers()].every(isIdle)
}

function isIdle({ broker, publishing }: FollowedBroker): boolean {
  const clients = Object.values(broker.clients)
  for (const client of clients) stopWaiting(client)
  return publishing === 0 && !clients.some(isHandling)
}

function isHandling(client: Client): boolean {
  const { handling = 0, delivering = 0 } = followedOf(client) ?? {}
  return client.connected && handling + delivering > 0
}

function brokers(): Set<FollowedBroker> {
  return new Set([...brokersInUse()].flatMap(({ broker }) => broker ?? []))
}

const IDLE_TURNS = 3
/** Longest that nobody is read from so that what has been read comes to its end, ms. */
const LONGEST_MS = 2_000
