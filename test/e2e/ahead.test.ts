import { describe, expect, it } from 'vitest'
import { Client } from '../helpers/client.js'
import { Line } from '../helpers/process.js'

/** From this many on descriptors go ahead of the freeze. */
const MANY = 1_000

/** A server with many connections, and a successor that has had all descriptors and is stopped before it says `go`. */
async function stopBeforeGo({ env }: { env?: NodeJS.ProcessEnv } = {}) {
  const line = await Line.start('mortal.mjs', env ? { env } : {})
  const predecessor = line.current
  const clients = await Client.connectMany(MANY + 10, line.port)
  await answer(clients)
  const successor = line.launch({ env: { TSUNAGI_FAULT: 'successor-before-receive=stop' } })
  await successor.untilStopped()
  return { line, predecessor, successor, clients }
}

async function answer(clients: readonly Client[], text = 'hello\n'): Promise<void> {
  for (const client of clients) client.send(text)
  for (const client of clients) await client.expect(text)
}

describe('descriptors that went ahead of the freeze', () => {
  it('are those of connections that are served on, end and begin', { timeout: 120_000 }, async () => {
    const { line, predecessor, successor, clients } = await stopBeforeGo()
    await answer(clients, 'while they are in two processes\n')
    const [dying, living] = [clients.slice(0, 5), clients.slice(5)]
    for (const client of dying) client.send('die\n')
    while (predecessor.all('destroyed').length < dying.length)
      await predecessor.until('destroyed', () => predecessor.all('destroyed').length === dying.length)
    const newcomers = await Client.connectMany(7, line.port)
    await answer(newcomers)
    successor.kill('SIGCONT')
    for (const client of dying) await client.closed()
    await successor.until('serving')
    expect((await predecessor.exited).code).toBe(0)
    const everybody = [...living, ...newcomers]
    expect(predecessor.all('handover')).toMatchObject([{ moved: everybody.length, stayed: [] }])
    expect(successor.all('resumed')).toMatchObject([{ moved: everybody.length, stayed: [] }])
    await answer(everybody)
    expect(everybody.flatMap(({ seen }) => seen)).toEqual([])
  })

  it('are let go of when the predecessor gives up, or the successor dies', { timeout: 120_000 }, async () => {
    const { line, predecessor, successor, clients } = await stopBeforeGo({ env: { TSUNAGI_FAULT: 'predecessor-before-send=throw@1' } })
    successor.kill('SIGKILL')
    await successor.exited
    const next = line.launch()
    expect(await predecessor.until('handover-failed')).toMatchObject({ serving: true })
    expect((await next.exited).code).toBe(1)
    const [dying, living] = [clients.slice(0, 5), clients.slice(5)]
    for (const client of dying) client.send('die\n')
    for (const client of dying) await client.closed()
    await answer(living)
    expect(living.flatMap(({ seen }) => seen)).toEqual([])
  })
})
