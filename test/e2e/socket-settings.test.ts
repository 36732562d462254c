import { describe, expect, it } from 'vitest'
import { pattern } from '../fixtures/pattern.mjs'
import { Client } from '../helpers/client.js'
import { Line } from '../helpers/process.js'

describe('what a socket was set to', () => {
  const each = [
    ['by its handler', { set: true }],
    ['by its server', { server: { noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 } }],
  ] as const

  it.each(each)('%s is what the kernel says in the third generation, and can be unset there', async (_, mode) => {
    const line = await Line.start('settings.mjs', { mode })
    const client = await Client.connect(line.port)
    await echoes(client)
    for (let handovers = 0; handovers < 2; handovers++) await line.next()
    line.current.tell('ask')
    expect(await line.current.until('options')).toMatchObject({ noDelay: true, keepAlive: true, idle: 30 })
    line.current.tell('unset')
    line.current.tell('ask')
    expect(await line.current.until('options', ({ noDelay }) => noDelay === false)).toMatchObject({ keepAlive: false })
    await echoes(client)
  })

  it('stays as it was where it was never set', async () => {
    const line = await Line.start('settings.mjs')
    const client = await Client.connect(line.port)
    await echoes(client)
    await line.next()
    line.current.tell('ask')
    expect(await line.current.until('options')).toMatchObject({ noDelay: false, keepAlive: false })
    await echoes(client)
  })

  it('keeps its high-water mark', async () => {
    const line = await Line.start('settings.mjs', { mode: { server: { highWaterMark: 1024 } } })
    const client = await Client.connect(line.port)
    await echoes(client)
    for (let handovers = 0; handovers < 2; handovers++) await line.next()
    line.current.tell('ask')
    expect(await line.current.until('options')).toMatchObject({ readable: 1024, writable: 1024 })
  })

  it("moves an unref'ed socket, which holds no generation open", async () => {
    const line = await Line.start('settings.mjs', { mode: { unref: true } })
    const client = await Client.connect(line.port)
    for (let handovers = 0; handovers < 2; handovers++) {
      await echoes(client)
      expect(await line.next()).toBe(line.current)
      expect(line.current.all('resumed')[0]).toMatchObject({ moved: 1 })
    }
    await echoes(client)
    expect(client.seen).toEqual([])
    line.current.tell('stop listening')
    expect((await line.current.exited).code).toBe(0)
  })
})

describe('a timeout', () => {
  const ms = 4000

  it('comes in the third generation once what remained of it is over, and once only', async () => {
    const line = await Line.start('timeout.mjs', { mode: { ms } })
    const start = performance.now()
    const client = await Client.connect(line.port)
    for (let handovers = 0; handovers < 2; handovers++) await line.next()
    await line.current.until('timeout')
    // A timer may be a millisecond early for each process that counted a part of it.
    expect(performance.now() - start).toBeGreaterThan(ms - 10)
    await line.current.until('well after')
    expect(line.current.told.map(({ event }) => event).filter((event) => TIMED.has(event))).toEqual(['timeout', 'full time', 'well after'])
    expect(line.generations.flatMap((process) => process.all('timeout'))).toHaveLength(1)
    expect(client.seen).toEqual([])
  })

  it('counts from the last activity, also from one in the new process', async () => {
    const line = await Line.start('timeout.mjs', { mode: { ms } })
    const client = await Client.connect(line.port)
    await line.next()
    const start = performance.now()
    await echoes(client)
    await line.current.until('timeout')
    expect(performance.now() - start).toBeGreaterThan(ms - 10)
    expect(line.current.all('timeout')).toHaveLength(1)
  })

  const TIMED = new Set(['timeout', 'full time', 'well after'])
})

describe('connections', () => {
  const each = [
    ['over IPv4', '127.0.0.1', ['127.0.0.1']],
    ['over IPv6', '::1', ['::1']],
    ['of a server on every IPv4 address', '0.0.0.0', ['127.0.0.1', '127.0.0.2']],
    ['of a dual-stack server', undefined, ['127.0.0.1', '::1', '127.0.0.2']],
    ['of a server on localhost by name', 'localhost', ['localhost']],
  ] as const

  it.each(each)('%s move over three generations', async (_, host, from) => {
    const line = await Line.start('echo.mjs', host ? { host } : {})
    const clients = await Promise.all(from.map((address) => Client.connect(line.port, { host: address })))
    for (const client of clients) await echoes(client)
    for (let handovers = 0; handovers < 2; handovers++) {
      await line.next()
      for (const client of clients) await echoes(client)
      const late = await Client.connect(line.port, { host: from[0] })
      await echoes(late)
      clients.push(late)
    }
    expect(line.current.all('resumed')[0]).toMatchObject({ moved: from.length + 1, generation: 3 })
    for (const client of clients) expect(client.seen).toEqual([])
  })

  it('that echo in bulk with backpressure lose no byte', async () => {
    const line = await Line.start('echo.mjs')
    const client = await Client.connect(line.port, { idle: true })
    const sent = pattern(40_000_000)
    const received = client.expect(sent.subarray(0, 10_000_000))
    client.send(sent)
    await line.next()
    await received
    await line.next()
    await client.expect(sent.subarray(10_000_000))
    expect(client.seen).toEqual([])
  })
})

async function echoes(client: Client): Promise<void> {
  client.send('are you there?')
  await client.expect('are you there?')
}
