import { describe, expect, it } from 'vitest'
import { FAULT_POINTS, type FaultPoint } from '../../src/env.js'
import { pattern } from '../fixtures/pattern.mjs'
import { Client } from '../helpers/client.js'
import { Line, type ServerProcess } from '../helpers/process.js'

/** Who serves the connections in the end. Whoever it is, no byte is wrong and new connections are served. */
type Outcome =
  | 'predecessor'
  | 'successor'
  /** They died with the process that held them: closed, never served wrongly. */
  | 'lost'
  /** The predecessor may be gone before it could count on the ack. */
  | 'successor or lost'

interface Expectation {
  kill: Outcome
  throw: Outcome
  /** Who serves while the process is stopped; the process goes on afterwards, and then the successor serves all. */
  whileStopped: 'predecessor' | 'successor' | 'nobody'
}

/** Before its commit everything is the predecessor's, after it the successor's. */
const EXPECTED: Record<(typeof FAULT_POINTS)[number], Expectation> = {
  'predecessor-before-freeze': { kill: 'lost', throw: 'predecessor', whileStopped: 'nobody' },
  'predecessor-before-send': { kill: 'lost', throw: 'predecessor', whileStopped: 'nobody' },
  'predecessor-between-batches': { kill: 'lost', throw: 'predecessor', whileStopped: 'nobody' },
  'predecessor-after-send': { kill: 'successor or lost', throw: 'predecessor', whileStopped: 'nobody' },
  'predecessor-before-commit': { kill: 'successor', throw: 'predecessor', whileStopped: 'nobody' },
  'predecessor-after-commit': { kill: 'successor', throw: 'successor', whileStopped: 'successor' },
  'predecessor-before-drain': { kill: 'successor', throw: 'successor', whileStopped: 'successor' },
  'successor-after-welcome': { kill: 'predecessor', throw: 'predecessor', whileStopped: 'predecessor' },
  'successor-before-ready': { kill: 'predecessor', throw: 'predecessor', whileStopped: 'predecessor' },
  'successor-before-receive': { kill: 'predecessor', throw: 'predecessor', whileStopped: 'predecessor' },
  'successor-before-ack': { kill: 'predecessor', throw: 'predecessor', whileStopped: 'predecessor' },
  'successor-after-ack': { kill: 'predecessor', throw: 'predecessor', whileStopped: 'nobody' },
  'successor-after-commit': { kill: 'predecessor', throw: 'predecessor', whileStopped: 'nobody' },
  'successor-amid-resume': { kill: 'lost', throw: 'lost', whileStopped: 'nobody' },
  'successor-before-resumed': { kill: 'lost', throw: 'lost', whileStopped: 'nobody' },
}

/** Enough for a second message of descriptors. */
const MANY = 300

describe.each(['kill', 'throw'] as const)('a process that meets a %s', (action) => {
  it.each(FAULT_POINTS.map((point) => [point, EXPECTED[point][action]] as const))(
    'at %s leaves the connections %s',
    async (point, outcome) => {
      const { line, clients, big, predecessor, successor } = await handOverWithFault(point, action)
      const faulty = point.startsWith('predecessor') ? predecessor : successor
      // After its commit the predecessor has nothing left that an error in its last chores could harm.
      if (point !== 'predecessor-before-drain' && !(point.startsWith('predecessor') && outcome === 'predecessor')) {
        expect((await faulty.exited).code).not.toBe(0)
      }
      if (outcome === 'successor or lost') {
        await successor.until('serving')
        return clients[0] && (await isServedBy(clients[0], successor)) ? allServedBy(successor, clients, big) : isClosedAmid(big)
      }
      if (outcome === 'successor') await successor.until('serving')
      if (outcome === 'predecessor') await successor.exited

      const survivor = faulty === predecessor && outcome !== 'predecessor' ? successor : predecessor
      if (faulty === predecessor && outcome === 'lost') await successor.untilSaid('this process serves its listeners')
      if (outcome === 'lost') {
        expect((await Promise.all(clients.map((client) => isServedBy(client, survivor)))).some(Boolean)).toBe(false)
        await isClosedAmid(big)
      } else {
        await allServedBy(survivor, clients, big)
      }
      await asks(await Client.connect(line.port), survivor)
    },
  )
})

describe('a process that is stopped', () => {
  it.each(FAULT_POINTS.map((point) => [point, EXPECTED[point].whileStopped] as const))(
    'at %s lets %s serve, and is no harm when it goes on',
    async (point, who) => {
      const { line, clients, big, predecessor, successor } = await handOverWithFault(point, 'stop')
      const stopped = point.startsWith('predecessor') ? predecessor : successor
      await stopped.untilStopped()
      if (point === 'successor-before-ack') await predecessor.until('handover-failed')
      if (who === 'predecessor') for (const client of clients.slice(0, 20)) await asks(client, predecessor)
      if (who === 'successor') await allServedBy(successor, clients, big)
      if (who === 'nobody') for (const client of clients) client.send('while stopped\n')

      void keepGoing(stopped)
      await successor.until('serving')
      expect((await predecessor.exited).code).toBe(0)
      if (who === 'nobody') for (const client of clients) expect(await client.line()).toMatch(/^\d+ while stopped$/)
      if (who !== 'successor') await allServedBy(successor, clients, big)
      await asks(await Client.connect(line.port), successor)
      for (const client of [...clients, big]) expect([client.surplus.length, client.seen]).toEqual([0, []])
    },
  )

  it('after its ack, and is killed then, gives everything back', async () => {
    const { clients, big, predecessor, successor } = await handOverWithFault('successor-after-ack', 'stop')
    await successor.untilStopped()
    for (const client of clients) client.send('while stopped\n')
    successor.kill()
    await predecessor.until('handover-failed')
    for (const client of clients) expect(await client.line()).toBe(`${predecessor.pid} while stopped`)
    await allServedBy(predecessor, clients, big)
  })

  it('before its ack gets no more than a few tries', async () => {
    const { clients, big, predecessor, successor } = await handOverWithFault('successor-before-ack', 'stop')
    for (let failures = 1; failures <= 4; failures++) {
      await successor.untilStopped()
      await predecessor.until('handover-failed', () => predecessor.all('handover-failed').length === failures)
      successor.kill('SIGCONT')
    }
    expect(await successor.until('error')).toMatchObject({ code: 'ERR_TSUNAGI_ABORTED', serving: true })
    expect((await successor.exited).code).toBe(1)
    await allServedBy(predecessor, clients, big)
  })
})

describe('after a handover that failed', () => {
  it.each(['predecessor-before-commit=throw', 'successor-before-ack=kill', 'successor-after-commit=kill'])(
    '(%s) the next one succeeds',
    async (fault) => {
      const { line, clients, big, predecessor, successor } = await handOverWithFault(...(fault.split('=') as [FaultPoint, string]))
      await successor.exited
      if (fault.startsWith('predecessor')) return allServedBy(predecessor, clients, big) // it would strike again
      await predecessor.until('handover-failed')
      const next = line.launch()
      await next.until('serving')
      expect((await predecessor.exited).code).toBe(0)
      await allServedBy(next, clients, big)
    },
  )
})

async function handOverWithFault(point: FaultPoint, action: string) {
  const env = { TSUNAGI_FAULT: `${point}=${action}` }
  const line = await Line.empty('answers.mjs')
  const predecessor = line.launch(point.startsWith('predecessor') ? { env } : {})
  await predecessor.until('serving')
  const clients = await Client.connectMany(MANY, line.port)
  const big = await Client.connect(line.port)
  await Promise.all(clients.map((client) => asks(client, predecessor)))
  big.send('big\n')
  expect(await big.line()).toBe(`${predecessor.pid} big`)
  const successor = line.launch(point.startsWith('successor') ? { env } : {})
  return { line, clients, big, predecessor, successor }
}

async function asks(client: Client, server: ServerProcess): Promise<void> {
  client.send('who?\n')
  expect(await client.line()).toBe(`${server.pid} who?`)
}

async function allServedBy(server: ServerProcess, clients: readonly Client[], big: Client): Promise<void> {
  await Promise.all(clients.map((client) => asks(client, server)))
  await big.expect(pattern(10_000_000))
  await asks(big, server)
  for (const client of [...clients, big]) expect([client.surplus.length, client.seen]).toEqual([0, []])
}

/** Whether the one server answers; if not the connection is over and nothing came of it. */
async function isServedBy(client: Client, server: ServerProcess): Promise<boolean> {
  client.send('still there?\n')
  const answer = await client.line().catch(() => undefined)
  if (answer !== undefined) {
    expect(answer).toBe(`${server.pid} still there?`)
    return true
  }
  expect(client.surplus.length).toBe(0)
  return false
}

/** What arrived before the end is right as far as it goes. */
async function isClosedAmid(big: Client): Promise<void> {
  await big.closed()
  const got = big.surplus
  expect(got.length).toBeLessThan(10_000_000)
  expect(got.equals(pattern(10_000_000).subarray(0, got.length))).toBe(true)
}

/** Wakes a process up as often as its fault stops it. */
async function keepGoing(stopped: ServerProcess): Promise<void> {
  for (;;) {
    stopped.kill('SIGCONT')
    if (
      await stopped.untilStopped().then(
        () => false,
        () => true,
      )
    )
      return
  }
}
