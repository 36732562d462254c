import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { FAULT_POINTS, type FaultPoint } from '../../src/env.js'
import { pattern } from '../fixtures/pattern.mjs'
import { Client } from '../helpers/client.js'
import { expectPage, table } from '../helpers/generated-page.js'
import { Line, type ServerProcess, stateOf } from '../helpers/process.js'

/** One fault: where, what, and in which handover. */
interface Fault {
  readonly point: FaultPoint
  readonly action: 'kill' | 'stop'
  readonly variant: Variant
}

/** How connections move, and in which transaction the fault strikes. */
interface Variant {
  readonly name: string
  readonly mode: 'atomic' | 'rolling'
  readonly nth: 1 | 2
}

/** Where the connections are when all has settled. */
interface Outcome {
  readonly reached: boolean
  readonly stayed: number
  readonly moved: number
  readonly closed: number
}

const ATOMIC: Variant = { name: 'atomic', mode: 'atomic', nth: 1 }
const VARIANTS: readonly Variant[] = [
  ATOMIC,
  { name: 'rolling, first batch', mode: 'rolling', nth: 1 },
  { name: 'rolling, second batch', mode: 'rolling', nth: 2 },
]
/** More than one message can bring, and more than the canary and one batch. */
const CONNECTIONS = 300
/** Clients that have sent this much and read nothing: the first of all, and the last. */
const BULKS = new Set([0, 1, CONNECTIONS - 2, CONNECTIONS - 1])
const BULK_BYTES = 1_500_000
/** The longest time that either side waits for the other before it gives up is 10 s (RECEIVE_TIMEOUT). */
const PAST_EVERY_BUDGET = 11_000

const outcomes = new Map<string, Outcome>()

describe.each(VARIANTS)('$name: no client gets a wrong byte, and a process takes nothing with it but what it owned', (variant) => {
  it.each(FAULT_POINTS)('killed at %s', async (point) => {
    await strike({ point, action: 'kill', variant })
  })

  it('stopped at each point past every budget, and going on then: no connection is closed', async () => {
    const settled = await Promise.all(FAULT_POINTS.map((point) => strike({ point, action: 'stop', variant })))
    expect(settled.map(({ closed }) => closed)).toEqual(FAULT_POINTS.map(() => 0))
  })
})

it('is what docs/faults.md says', () => {
  expect(outcomes.size).toBe(2 * FAULT_POINTS.length * VARIANTS.length)
  const page = faultsPage()
  process.stdout.write(`${page}\n`)
  expectPage('faults.md', page)
})

/** One handover in which a process is killed or stopped, with every connection asked afterwards. */
async function strike(fault: Fault): Promise<Outcome> {
  const { point, action, variant } = fault
  const env = { TSUNAGI_FAULT: `${point}=${action}@${variant.nth}` }
  const isPredecessor = point.startsWith('predecessor')
  const line = await Line.start('counted-echo.mjs', isPredecessor ? { env } : {})
  const predecessor = line.current
  const clients: Client[] = []
  for (let i = 0; i < CONNECTIONS; i++) {
    const client = await Client.connect(line.port, { idle: BULKS.has(i) })
    client.send(pattern(BULKS.has(i) ? BULK_BYTES : 400, i))
    clients.push(client)
  }
  await Promise.all(clients.map((client, i) => (BULKS.has(i) ? undefined : client.expect(pattern(400, i)))))

  const successor = line.launch({ env: { TSUNAGI_MODE: variant.mode, TSUNAGI_FAULT: isPredecessor ? '' : env.TSUNAGI_FAULT } })
  const victim = isPredecessor ? predecessor : successor
  const settled = settlement(predecessor, successor)
  const reached = await (action === 'kill' ? hasBeenKilled(victim, predecessor) : hasBeenStopped(victim, settled))
  if (reached && action === 'stop') {
    await delay(PAST_EVERY_BUDGET)
    victim.child.kill('SIGCONT') // it may have been past all this already, and ended
  }
  if (!reached || action === 'stop') await settled

  const answers = await Promise.all(clients.map((client, i) => goesOn(client, i)))
  const [stayed, moved] = await Promise.all([countOf(predecessor), countOf(successor)])
  const outcome = { reached, stayed, moved, closed: answers.filter((answered) => !answered).length }
  expect(outcome.stayed + outcome.moved + outcome.closed).toBe(CONNECTIONS)
  outcomes.set(keyOf(fault), outcome)
  for (const { child } of [predecessor, successor]) child.kill('SIGKILL')
  for (const client of clients) client.socket.destroy()
  return outcome
}

/** Everything has moved that will, or the new process has given up. */
async function settlement(predecessor: ServerProcess, successor: ServerProcess): Promise<void> {
  await Promise.race([predecessor.until('handover').catch(() => predecessor.exited), successor.exited])
}

/** Waits for the victim's end by the fault, or for a handover that the fault did not touch: then the predecessor leaves. */
async function hasBeenKilled(victim: ServerProcess, predecessor: ServerProcess): Promise<boolean> {
  const { signal } = await Promise.race([victim.exited, predecessor.exited])
  return signal === 'SIGKILL'
}

async function hasBeenStopped(victim: ServerProcess, settled: Promise<void>): Promise<boolean> {
  return Promise.race([victim.untilStopped().then(() => true), settled.then(() => stateOf(victim.pid) === 'T')])
}

/** Whether the connection still gives back what is sent; throws if it gives anything else. */
async function goesOn(client: Client, i: number): Promise<boolean> {
  const owed = BULKS.has(i) ? pattern(BULK_BYTES, i) : Buffer.alloc(0)
  const expected = Buffer.concat([owed, Buffer.from(`and connection ${i} goes on`)])
  client.send(expected.subarray(owed.length))
  try {
    await client.expect(expected)
    return true
  } catch (error) {
    if (client.seen.length === 0) throw error
    expect(client.surplus.equals(expected.subarray(0, client.surplus.length))).toBe(true)
    return false
  }
}

/** Connections of a process; of one that has ended, or ends meanwhile, none. */
async function countOf(process: ServerProcess): Promise<number> {
  process.tell('count')
  const answer = await Promise.race([process.until('count').catch(() => undefined), process.exited.then(() => undefined)])
  return (answer?.['connections'] as number | undefined) ?? 0
}

function keyOf({ point, action, variant }: Fault): string {
  return `${point} ${action} ${variant.name}`
}

function faultsPage(): string {
  const columns = (['kill', 'stop'] as const).flatMap((action) => VARIANTS.map((variant) => ({ action, variant })))
  const page = (side: 'predecessor' | 'successor') =>
    table(
      ['fault point', ...columns.map(({ action, variant }) => `${action === 'kill' ? 'SIGKILL' : 'SIGSTOP'}, ${variant.name}`)],
      FAULT_POINTS.filter((point) => point.startsWith(side)).map((point) => [
        point.slice(side.length + 1).replaceAll('-', ' '),
        ...columns.map((column) => cell(point, column.action, outcomes.get(keyOf({ point, ...column })) as Outcome)),
      ]),
    )
  return `<!-- Written by \`npm run docs\` from what test/e2e/fault-table.test.ts finds. -->
# Faults

What becomes of ${CONNECTIONS} connections when one of the two processes is killed, or stopped for longer than anybody waits and then continued, at each
named point of a handover. ${BULKS.size} of them have ${BULK_BYTES / 1e6} MB on their way through the server and a client that does not read. "Stay": the predecessor serves them on;
"move": the successor does; "closed": the client sees the connection end, having got no wrong byte. A dead process takes with it what it owned,
and what it may have begun to serve; nothing else is ever closed.

A rolling handover moves 64 connections first and then 128 at a time.

## The predecessor fails

${page('predecessor')}

## The successor fails

${page('successor')}
`
}

/** Whether the ack of what was just sent is still taken by a process that is being killed is a race: the ack decides, and both ways are right. */
function cell(point: FaultPoint, action: Fault['action'], outcome: Outcome): string {
  return point === 'predecessor-after-send' && action === 'kill' ? 'as before it, or as before commit' : inWords(outcome)
}

function inWords({ reached, stayed, moved, closed }: Outcome): string {
  if (!reached) return '–'
  const parts = [
    [stayed, 'stay'],
    [moved, 'move'],
    [closed, 'closed'],
  ] as const
  return parts.flatMap(([count, word]) => (count > 0 ? [`${count} ${word}`] : [])).join(', ')
}
