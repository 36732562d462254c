import { describe, expect, it } from 'vitest'
import { Client } from '../helpers/client.js'
import { Line } from '../helpers/process.js'

describe('the predecessor', () => {
  it('tells its application of no end, and says no goodbye', async () => {
    const line = await Line.start('late.mjs')
    const clients = await Client.connectMany(3, line.port)
    for (let handovers = 0; handovers < 2; handovers++) {
      for (const [i, client] of clients.entries()) {
        client.send(`hello ${i}`)
        await client.expect(`at once: hello ${i}\n`)
      }
      const predecessor = line.current
      await line.next()
      const told = predecessor.told.map(({ event }) => event).filter((event) => /socket|close/.test(event))
      expect(told).toEqual([])
    }
    for (const client of clients) {
      client.send('still there?')
      await client.expect('at once: still there?\n')
      expect([client.surplus.length, client.seen]).toEqual([0, []])
    }
  })

  const answers: [title: string, request: string, expected: string, ends: boolean][] = [
    ['an answer', 'once', 'the answer\n', false],
    ['an answer in 501 parts', 'in parts', `${Array.from({ length: 500 }, (_, i) => `part ${i + 1}\n`).join('')}done\n`, false],
    ['a corked answer of which one half was there', 'corked', 'begun and done\n', false],
    ['an answer that ends the connection', 'and end', 'the answer\nthe end\n', true],
    ['a destroy()', 'and destroy', '', true],
  ]

  it.each(answers)('sends %s that it gives after the handover, exactly once', async (_, request, expected, ends) => {
    const { line, client, predecessor } = await working(request)
    await line.nextWhileDraining()
    client.send('and this?')
    await client.expect(request === 'corked' ? 'begun ' : 'at once: and this?\n')
    if (request === 'corked') await client.expect('at once: and this?\n')
    predecessor.tell('release')
    await client.expect(request === 'corked' ? 'and done\n' : expected)
    expect((await predecessor.exited).code).toBe(0)
    if (request === 'in parts') expect(predecessor.all('callback')).toHaveLength(1)
    await endsOrGoesOn(client, ends)
    expect(predecessor.told.filter(({ event }) => event.startsWith('socket '))).toEqual([])
  })

  it.each(answers)('sends %s that it gives before the successor has resumed, exactly once', async (_, request, expected, ends) => {
    const { line, client, predecessor } = await working(request)
    const successor = line.launch({ env: { TSUNAGI_FAULT: 'successor-before-resumed=stop' } })
    await successor.untilStopped()
    predecessor.tell('release')
    await predecessor.until('answered')
    successor.kill('SIGCONT')
    await successor.until('serving')
    await client.expect(expected)
    expect((await predecessor.exited).code).toBe(0)
    await endsOrGoesOn(client, ends)
  })

  it('sends answers to several connections in their order', async () => {
    const line = await Line.start('late.mjs')
    const predecessor = line.current
    const clients = await Client.connectMany(5, line.port)
    for (const client of clients) {
      client.send('in parts\nonce\n')
      await predecessor.until('working', () => predecessor.all('working').length > clients.indexOf(client))
    }
    await line.nextWhileDraining()
    predecessor.tell('release')
    const parts = Array.from({ length: 500 }, (_, i) => `part ${i + 1}\n`).join('')
    for (const client of clients) await client.expect(`${parts}done\n`)
    await predecessor.until('working', () => predecessor.all('working').length === 10)
    predecessor.tell('release')
    for (const client of clients) await client.expect('the answer\n')
    expect((await predecessor.exited).code).toBe(0)
  })

  it('does not send what its intervals write any more', async () => {
    const line = await Line.start('ticks.mjs')
    const [client, held] = await Client.connectMany(2, line.port)
    let next = Number(await client?.line())
    held?.send('hold this process')
    await line.current.until('stays')
    for (let handovers = 0; handovers < 2; handovers++) {
      const predecessor = line.current
      await line.nextWhileDraining()
      // Well into the time in which both processes are there with the same intervals.
      for (let ticks = 0; ticks < 100; ticks++) expect(Number(await client?.line())).toBe(++next)
      if (handovers > 0) break
      held?.end()
      expect((await predecessor.exited).code).toBe(0)
    }
    expect(client?.seen).toEqual([])
  })
})

async function working(request: string) {
  const line = await Line.start('late.mjs')
  const client = await Client.connect(line.port)
  client.send(request)
  await line.current.until('working')
  return { line, client, predecessor: line.current }
}

async function endsOrGoesOn(client: Client, ends: boolean): Promise<void> {
  if (ends) return client.expectEnd()
  client.send('go on')
  await client.expect('at once: go on\n')
  expect([client.surplus.length, client.seen]).toEqual([0, []])
}
