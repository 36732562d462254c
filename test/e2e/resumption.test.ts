import { describe, expect, it } from 'vitest'
import { Client } from '../helpers/client.js'
import { Line } from '../helpers/process.js'

describe("a 'connection' handler that is run again", () => {
  it.each(['greets', 'holds its write'])('does not greet again (%s)', async (mind) => {
    const { line, client } = await minded(mind)
    await client.expect('welcome\n')
    for (let handovers = 0; handovers < 2; handovers++) {
      await line.next()
      client.send('hello\n')
      await client.expect('you said hello\n')
    }
    expect([client.surplus.length, client.seen]).toEqual([0, []])
  })

  it.each(['greets and ends', 'ends, and greets those who come back'])('leaves alone what was ended (%s)', async (mind) => {
    const { line, client } = await minded(mind, true)
    for (let handovers = 0; handovers < 2; handovers++) await line.next()
    await client.expect('welcome, and goodbye\n')
    await client.expectEnd()
  })

  it('greets as it likes when it asks whether the connection is resumed', async () => {
    const { line, client } = await minded('greets those who are new')
    await client.expect('welcome\n')
    for (let handovers = 0; handovers < 2; handovers++) {
      await line.next()
      await client.expect('welcome back\n')
      client.send('hello\n')
      await client.expect('you said hello\n')
    }
    expect([client.surplus.length, client.seen]).toEqual([0, []])
  })

  it('may ask later', async () => {
    const { line, client } = await minded('greets later')
    await client.expect('welcome\n')
    await line.next()
    client.send('hello\n')
    await client.expect('you said hello\n')
    expect(client.surplus.length).toBe(0)
  })

  it('that fills its connection goes on where it was when it carries where it was', async () => {
    const { line, client } = await minded('firehose that carries')
    let next = await blocks(client, 0, 500)
    for (let handovers = 0; handovers < 2; handovers++) {
      const predecessor = line.current
      const successor = line.launch()
      // The client reads on while the process changes, so that 'drain' comes at any moment.
      while (!successor.all('serving').length) next = await blocks(client, next, 10)
      next = await blocks(client, next, 1000)
      expect((await predecessor.exited).code).toBe(0)
    }
    expect(client.seen).toEqual([])
  })

  it('that fills its connection and forgets where it was neither cuts a block nor begins at the first', async () => {
    const { line, client } = await minded('firehose that forgets')
    await blocks(client, 0, 500)
    for (let handovers = 0; handovers < 2; handovers++) {
      await line.next()
      for (let i = 0; i < 5000; i++) {
        const bytes = await client.read(BLOCK)
        const n = Number(bytes.subarray(0, 15))
        expect(n).toBeGreaterThan(0)
        expect(bytes.equals(block(n)), `block ${n} is whole`).toBe(true)
      }
    }
    expect(client.seen).toEqual([])
  })

  it('that throws for one connection loses that one alone', async () => {
    const line = await Line.start('handlers.mjs', { mode: { mind: 'throws' } })
    const [good, bad, other] = (await Client.connectMany(3, line.port)) as [Client, Client, Client]
    for (const [client, name] of [
      [good, 'good'],
      [bad, 'bad'],
      [other, 'other'],
    ] as const) {
      client.send(name)
      await client.expect(`${name} said ${name}`)
    }
    const predecessor = line.current
    await line.next()
    await bad.closed()
    for (const [client, name] of [
      [good, 'good'],
      [other, 'other'],
    ] as const) {
      client.send('hello')
      await client.expect(`${name} said hello`)
      expect(client.seen).toEqual([])
    }
    expect(line.current.stderr).toMatch('not this one')
    expect(predecessor.all('socket close')).toHaveLength(0)
  })
})

async function minded(mind: string, idle = false) {
  const line = await Line.start('handlers.mjs', { mode: { mind } })
  return { line, client: await Client.connect(line.port, { idle }) }
}

const BLOCK = 4096
const block = (n: number) => Buffer.from(`${String(n).padStart(15, '0')}\n`.repeat(BLOCK / 16))

async function blocks(client: Client, first: number, count: number): Promise<number> {
  await client.expect(Buffer.concat(Array.from({ length: count }, (_, i) => block(first + i))))
  return first + count
}
