import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { Client, talk, who } from '../helpers/client.js'
import { missingNodes, NODES } from '../helpers/nodes.js'
import { REGISTER, whoServes } from '../helpers/plain.js'
import { fixture, Line, temporaryDirectory } from '../helpers/process.js'

describe.each(['rr', 'none'])('cluster workers that their primary replaces, policy %s', (policy) => {
  it('hand their connections to the worker in their slot, three times', async () => {
    const { line, primary } = await start({ policy, slots: true })
    const clients = await Client.connectMany(20, line.port)
    const before = await Promise.all(clients.map(who))
    expect(workersOf(primary, 'serving')).toEqual(expect.arrayContaining([...new Set(before)])) // the kernel may give all to one
    for (let reload = 1; reload <= 3; reload++) {
      primary.tell('reload')
      const [was, is] = [await Promise.all(clients.map(who)), await untilReloaded(primary, reload)]
      expect(was).toHaveLength(20)
      const now = await Promise.all(clients.map(who))
      expect(is).toEqual(expect.arrayContaining([...new Set(now)]))
    }
    expect(clients.flatMap(({ seen }) => seen)).toEqual([])
    if (policy === 'rr') expect(new Set(before).size).toBe(2)
    expect(primary.all('worker exit')).toHaveLength(6)
    expect(primary.all('worker exit').every(({ code }) => code === 0)).toBe(true)
  })
})

describe.each(NODES)('on Node $major', ({ path }) => {
  it.each(['rr', 'none'])('a worker hands over to the one in its slot, policy %s', async (policy) => {
    expect(missingNodes()).toBe('')
    const { line, primary } = await start({ policy, slots: true, workers: 1 }, undefined, [path])
    const clients = await Client.connectMany(5, line.port)
    const talking = talk(clients)
    primary.tell('reload')
    const [pid] = await untilReloaded(primary, 1)
    await talking.stop()
    expect(await Promise.all(clients.map(who))).toEqual(clients.map(() => pid))
    expect(await whoServes(line.port)).toBe(Number(pid))
    expect(clients.flatMap(({ seen }) => seen)).toEqual([])
  })
})

describe.each(['rr', 'none'])('cluster workers to which their primary says nothing, policy %s', (policy) => {
  it('hand over to the youngest when they are disconnected, three times', async () => {
    const { line, primary } = await start({ policy })
    const clients = await Client.connectMany(20, line.port)
    const talking = talk(clients)
    for (let reload = 1; reload <= 3; reload++) {
      primary.tell('reload')
      await untilReloaded(primary, reload)
    }
    await talking.stop()
    expect(workersOf(primary, 'reloaded', 2)).toEqual(expect.arrayContaining([...new Set(await Promise.all(clients.map(who)))]))
    expect(clients.flatMap(({ seen }) => seen)).toEqual([])
    expect(primary.all('worker exit').map(({ code }) => code)).toEqual([0, 0, 0, 0, 0, 0])
    // One by one: each goes to the one that was forked for it.
    const handed = primary.all('report').filter(({ role }) => role === 'predecessor')
    expect(new Set(handed.map(({ successor }) => successor)).size).toBe(handed.length)
  })

  it('end with their connections when all of them are disconnected', async () => {
    const { line, primary } = await start({ policy })
    const clients = await Client.connectMany(20, line.port)
    await Promise.all(clients.map(who)) // the workers have them all
    const talking = talk(clients)
    primary.tell('stop')
    await talking.stop()
    for (const client of clients) client.end()
    for (const client of clients) await client.expectEnd()
    await primary.until('worker exit', (told) => primary.all('worker exit').indexOf(told) === 1)
    expect(primary.all('worker exit').map(({ code }) => code)).toEqual([0, 0])
  })

  it('keep what is carried for all connections to themselves: they serve on until their connections end', async () => {
    const { line, primary } = await start({ policy, workers: 1, exec: fixture('carries.cjs') })
    const client = await Client.connect(line.port)
    const pid = await who(client)
    primary.tell('reload')
    const other = (await primary.until('server listening', (told) => told['pid'] !== Number(pid))) as { pid?: number }
    while ((await whoServes(line.port)) !== other.pid);
    expect(await who(client)).toBe(pid)
    client.end()
    await client.expectEnd()
    await untilReloaded(primary, 1)
    expect(primary.all('report')).toEqual([])
  })

  it('serve on until their connections end where the youngest dies as it takes over', async () => {
    const { line, primary } = await start({ policy, workers: 1, dies: 'successor-before-ack=kill' })
    const clients = await Client.connectMany(20, line.port)
    const [pid] = await Promise.all(clients.map(who))
    primary.tell('reload')
    await primary.until('worker exit', ({ signal }) => signal === 'SIGKILL')
    expect(new Set(await Promise.all(clients.map(who)))).toEqual(new Set([pid]))
    for (const client of clients) client.end()
    for (const client of clients) await client.expectEnd()
    await primary.until('worker exit', ({ worker }) => worker === Number(pid))
  })
})

it.each(['rr', 'none'])(
  'a path on which cluster workers listen stays when one is replaced, and when one leaves, policy %s',
  async (policy) => {
    const path = join(temporaryDirectory(), 'app.sock')
    const { primary } = await start({ slots: true, policy, worker: { path } })
    primary.tell('reload')
    const workers = await untilReloaded(primary, 1)
    for (let i = 0; i < 4; i++) expect(workers).toContain(String(await whoServes(path)))
    primary.tell('one leaves')
    await primary.until('worker exit', ({ worker }) => String(worker) === workers[0])
    expect(String(await whoServes(path))).toBe(workers[1])
  },
)

describe('a worker that dies while it takes over', () => {
  it.each(['successor-after-welcome', 'successor-before-ready', 'successor-before-ack', 'successor-after-ack'])(
    'at %s costs nothing: its primary forks another one',
    async (point) => {
      const { line, primary } = await start({ slots: true, workers: 1, fault: `${point}=kill` })
      const clients = await Client.connectMany(20, line.port)
      const talking = talk(clients)
      primary.tell('reload')
      const [pid] = await untilReloaded(primary, 1)
      await talking.stop()
      expect(new Set(await Promise.all(clients.map(who)))).toEqual(new Set([pid]))
      expect(await whoServes(line.port)).toBe(Number(pid))
      expect(clients.flatMap(({ seen }) => seen)).toEqual([])
    },
  )

  it('after the commit costs what it had started: the old worker takes the rest back, and gets new connections again', async () => {
    const { line, primary } = await start({ slots: true, workers: 1, fault: 'successor-after-commit=kill' })
    const clients = await Client.connectMany(20, line.port)
    primary.tell('reload')
    const [pid] = await untilReloaded(primary, 1)
    expect(primary.stderr).toContain('20 connections were taken back')
    expect(new Set(await Promise.all(clients.map(who)))).toEqual(new Set([pid]))
    expect(await whoServes(line.port)).toBe(Number(pid))
  })
})

describe('a cluster worker', () => {
  it('that nobody gave a slot, and of which nothing moves, serves its connections until they end, as ever', async () => {
    const { line, primary } = await start({ workers: 1 }, {})
    const client = await Client.connect(line.port)
    const [pid] = workersOf(primary, 'serving')
    expect(await who(client)).toBe(pid)
    primary.tell('reload')
    await primary.until('server listening', (told) => told['pid'] !== Number(pid))
    expect(await who(client)).toBe(pid)
    client.end()
    await client.expectEnd()
    await untilReloaded(primary, 1)
    expect(primary.all('report')).toEqual([])
  })

  it('whose connections nobody asked to move serves them until they end, and gets no new ones', async () => {
    const { line, primary } = await start({ slots: true, workers: 1 }, {})
    const client = await Client.connect(line.port)
    const [pid] = workersOf(primary, 'serving')
    primary.tell('reload')
    const { successor } = await primary.until('report', ({ role }) => role === 'predecessor')
    for (let i = 0; i < 4; i++) expect(await whoServes(line.port)).toBe(successor)
    expect(await who(client)).toBe(pid)
    client.end()
    await client.expectEnd()
    expect(await untilReloaded(primary, 1)).toEqual([String(successor)])
  })
})

async function start(mode: Record<string, unknown>, env: NodeJS.ProcessEnv = { TSUNAGI_MOVE: 'raw' }, command = [process.execPath]) {
  const line = await Line.empty(fixture('plain/rolling-cluster.cjs'), { node: REGISTER, mode, env, command })
  const primary = line.launch()
  await primary.until('serving')
  return { line, primary }
}

function workersOf(primary: Line['current'], event: string, at = 0): string[] {
  const told = primary.all(event)[at] as { workers?: number[] } | undefined
  return told?.workers?.map(String) ?? []
}

async function untilReloaded(primary: Line['current'], times: number): Promise<string[]> {
  await primary.until('reloaded', (told) => primary.all('reloaded').indexOf(told) === times - 1)
  return workersOf(primary, 'reloaded', times - 1)
}
