import { describe, expect, it } from 'vitest'
import { Client } from '../helpers/client.js'
import { Line, type ServerProcess } from '../helpers/process.js'

describe('a connection of which one side is over', () => {
  it('goes on receiving after its own end() was sent', async () => {
    const { line, client } = await connected({ allowHalfOpen: true, say: 'bye' })
    await client.expect('bye')
    await client.expectEnd()
    const parts = ['one', 'two', 'three']
    for (const [i, part] of parts.entries()) {
      client.send(part)
      await line.current.until('data', ({ text }) => text === part)
      if (i === 2) break
      await line.next()
      expect(line.current.all('connection')[0]).toMatchObject({ resumed: true, writableEnded: true })
    }
    client.end()
    await line.current.until('socket end')
    await line.current.until('socket close')
    expect(endings(line.generations)).toEqual([[], [], ['end', 'close']])
    await client.closed()
    expect(client.seen).toEqual(['end', 'close'])
  })

  it("is told 'end' in the third generation when the client's end was not read before", async () => {
    const { line, client } = await connected({ allowHalfOpen: true, paused: true })
    client.send('all I have to say')
    client.end()
    await line.next()
    await line.next()
    line.current.tell('go')
    await line.current.until('socket end')
    expect(
      line.current
        .all('data')
        .map(({ text }) => text)
        .join(''),
    ).toBe('all I have to say')
    line.current.tell('write')
    line.current.tell('end')
    await client.expect('more\nlast\n')
    await client.expectEnd()
    await line.current.until('socket close')
    expect(endings(line.generations)).toEqual([[], [], ['end', 'close']])
  })

  it("goes on writing, and is not told 'end' again, when the client's end was told before", async () => {
    const { line, client } = await connected({ allowHalfOpen: true })
    client.end()
    await line.current.until('socket end')
    for (let handovers = 0; handovers < 2; handovers++) {
      line.current.tell('write')
      await client.expect('more\n')
      await line.next()
      expect(line.current.all('connection')[0]).toMatchObject({ resumed: true, readableEnded: true })
    }
    line.current.tell('write')
    line.current.tell('end')
    await client.expect('more\nlast\n')
    await client.expectEnd()
    await line.current.until('socket close')
    expect(endings(line.generations)).toEqual([['end'], [], ['close']])
    await client.closed()
    expect(client.seen).toEqual(['end', 'close'])
  })

  it("ends by itself once the client's end is read, without allowHalfOpen", async () => {
    const { line, client } = await connected({ allowHalfOpen: false, paused: true })
    client.send('the last of it')
    client.end()
    await line.next()
    await line.next()
    line.current.tell('go')
    await client.expectEnd()
    await line.current.until('socket close')
    expect(
      line.current
        .all('data')
        .map(({ text }) => text)
        .join(''),
    ).toBe('the last of it')
    expect(endings(line.generations)).toEqual([[], [], ['end', 'close']])
  })
})

async function connected(mode: Record<string, unknown>): Promise<{ line: Line; client: Client }> {
  const line = await Line.start('ends.mjs', { mode })
  const client = await Client.connect(line.port)
  await line.current.until('connection')
  return { line, client }
}

/** What each process told its application about the end of the connection, in order. */
function endings(generations: readonly ServerProcess[]): string[][] {
  const names = ['end', 'close', 'error']
  return generations.map(({ told }) => told.map(({ event }) => event.replace('socket ', '')).filter((event) => names.includes(event)))
}
