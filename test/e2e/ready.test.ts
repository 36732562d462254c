import { describe, expect, it } from 'vitest'
import { Client } from '../helpers/client.js'
import { Line } from '../helpers/process.js'

describe('a process', () => {
  it('owns when it serves, and retires when another does', async () => {
    const line = await Line.start('ready.mjs')
    const [first] = line.generations
    await first?.until('owned')
    const second = await line.next()
    expect(first?.all('retiring')).toHaveLength(1)
    expect(first?.all('handover')).toHaveLength(1)
    expect(second.all('owned')).toHaveLength(1)
    expect(second.all('retiring')).toHaveLength(0)
  })

  it.each(['promise', 'top level'])('takes over no earlier than it is ready (%s)', async (waits) => {
    const line = await Line.start('ready.mjs')
    const predecessor = line.current
    const client = await Client.connect(line.port)
    const successor = line.launch({ env: { WAITS: waits } })
    // Longer than everything that it could wait for by itself.
    if (waits !== 'top level') await successor.until('server listening')
    for (let i = 0; i < 200; i++) await asks(client, `${predecessor.pid} false\n`)
    expect(successor.all('owned')).toHaveLength(0)
    successor.tell('be ready')
    await successor.until('owned')
    await asks(client, `${successor.pid} true\n`)
    expect((await predecessor.exited).code).toBe(0)
  })
})

async function asks(client: Client, answer: string): Promise<void> {
  client.send('who?')
  await client.expect(answer)
}
