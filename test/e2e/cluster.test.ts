import { describe, expect, it } from 'vitest'
import { Client } from '../helpers/client.js'
import { REGISTER } from '../helpers/plain.js'
import { fixture, Line } from '../helpers/process.js'

describe.each(['rr', 'none'])('cluster workers that their primary replaces, policy %s', (policy) => {
  it('hand their connections to the worker in their slot, three times', async () => {
    const { line, primary } = await start({ policy, slots: true })
    const clients = await Client.connectMany(20, line.port)
    const before = await Promise.all(clients.map(who))
    expect(new Set(before)).toEqual(new Set(workersOf(primary, 'serving')))
    for (let reload = 1; reload <= 3; reload++) {
      primary.tell('reload')
      const [was, is] = [await Promise.all(clients.map(who)), await untilReloaded(primary, reload)]
      expect(was).toHaveLength(20)
      const now = await Promise.all(clients.map(who))
      expect(new Set(now)).toEqual(new Set(is))
    }
    expect(clients.flatMap(({ seen }) => seen)).toEqual([])
    expect(primary.all('worker exit')).toHaveLength(6)
    expect(primary.all('worker exit').every(({ code }) => code === 0)).toBe(true)
  })
})

async function start(mode: Record<string, unknown>) {
  const line = await Line.empty(fixture('plain/rolling-cluster.cjs'), { node: REGISTER, mode, env: { TSUNAGI_MOVE: 'raw' } })
  const primary = line.launch()
  await primary.until('serving')
  return { line, primary }
}

async function who(client: Client): Promise<string> {
  client.send('who')
  return client.line()
}

function workersOf(primary: Line['current'], event: string, at = 0): string[] {
  return (primary.all(event)[at]?.['workers'] as number[]).map(String)
}

async function untilReloaded(primary: Line['current'], times: number): Promise<string[]> {
  await primary.until('reloaded', (told) => primary.all('reloaded').indexOf(told) === times - 1)
  return workersOf(primary, 'reloaded', times - 1)
}
