import { describe, expect, it } from 'vitest'
import { pattern, patternText } from '../fixtures/pattern.mjs'
import { Client } from '../helpers/client.js'
import { Line, type ServerProcess } from '../helpers/process.js'

/** As in fixtures/unsent.mjs. */
const BYTES = 20_000_000

/** The successor has all and has started nothing when it dies: the predecessor goes on as if nothing had happened. */
describe('a connection that is taken back from a dead successor', () => {
  const ways: [how: string, expected: () => Buffer, ends: boolean][] = [
    ['buffer', () => pattern(BYTES), false],
    ['utf8', () => Buffer.from(patternText(BYTES)), false],
    ['many small', () => pattern(BYTES), false],
    ['mixed', () => pattern(BYTES), false],
    ['corked', () => pattern(BYTES), false],
    ['writev', () => Buffer.concat([pattern(BYTES), pattern(100_000, 1)]), false],
    ['then end', () => pattern(BYTES), true],
    ['then end with words', () => Buffer.concat([pattern(BYTES), Buffer.from('goodbye')]), true],
  ]

  it.each(ways)('sends what it had not sent (%s)', async (how, makeExpected, ends) => {
    const line = await Line.start('unsent.mjs', { mode: { how } })
    const predecessor = line.current
    const client = await Client.connect(line.port, { idle: true })
    await predecessor.until('holding')
    await takenBack(line)
    if (how === 'corked') predecessor.tell('uncork')
    await client.expect(makeExpected())
    client.send('I have it all')
    await predecessor.until('data', ({ text }) => text === 'I have it all')
    if (!ends) expect(client.seen).toEqual([])
    client.end()
    await client.expectEnd()
    await predecessor.until('socket close')
    expect(predecessor.all('socket error')).toEqual([])
    if (how === 'buffer') expect(predecessor.all('written')).toHaveLength(1)
  })

  it.each(['paused', 'unheard', 'flowing'])('hands out what it had not handed out (%s)', async (hold) => {
    const line = await Line.start('unread.mjs', { mode: { hold, encoding: 'utf8' } })
    const sent = Buffer.from(`${patternText(40_000)}😀`)
    const client = await Client.connect(line.port)
    client.send(sent.subarray(0, -2))
    await line.current.until('holding')
    await takenBack(line)
    line.generations[0]?.tell('go')
    client.send(sent.subarray(-2))
    client.end()
    await client.expect(sent)
    await client.expectEnd()
  })

  it('times out when it would have', async () => {
    const ms = 1500
    const line = await Line.start('timeout.mjs', { mode: { ms } })
    const start = performance.now()
    await Client.connect(line.port)
    await takenBack(line)
    const since = performance.now()
    await line.generations[0]?.until('timeout')
    expect(performance.now() - start).toBeGreaterThan(ms - 10)
    expect(performance.now() - since).toBeLessThan(ms)
  })

  it('sends what was written late meanwhile, and moves at the next handover', async () => {
    const line = await Line.start('late.mjs')
    const predecessor = line.current
    const client = await Client.connect(line.port)
    client.send('in parts')
    await predecessor.until('working')
    const successor = line.launch({ env: { TSUNAGI_FAULT: 'successor-after-commit=stop' } })
    await successor.untilStopped()
    predecessor.tell('release')
    await predecessor.until('answered')
    successor.kill()
    await predecessor.until('handover-failed')
    await client.expect(`${Array.from({ length: 500 }, (_, i) => `part ${i + 1}\n`).join('')}done\n`)
    line.generations.pop()
    await line.next()
    client.send('and now?')
    await client.expect('at once: and now?\n')
    expect([client.surplus.length, client.seen]).toEqual([0, []])
  })

  it('is broadcast to by the intervals that are there', async () => {
    const line = await Line.start('ticks.mjs')
    const client = await Client.connect(line.port)
    let next = Number(await client.line())
    const successor = line.launch({ env: { TSUNAGI_FAULT: 'successor-after-commit=stop' } })
    await successor.untilStopped()
    successor.kill()
    await line.generations[0]?.until('handover-failed')
    for (let ticks = 0; ticks < 200; ticks++) expect(Number(await client.line())).toBe(++next)
  })
})

async function takenBack(line: Line): Promise<ServerProcess> {
  const predecessor = line.current
  const successor = line.launch({ env: { TSUNAGI_FAULT: 'successor-after-commit=kill' } })
  await successor.exited
  expect(await predecessor.until('handover-failed')).toMatchObject({ phase: 'resume', serving: true })
  return predecessor
}
