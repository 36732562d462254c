import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { Client } from '../helpers/client.js'
import { nextPlain, REGISTER, startPlain, TOOK_OVER, whoServes } from '../helpers/plain.js'
import { fixture, Line, type ServerProcess, temporaryDirectory } from '../helpers/process.js'

const NOBODY_ASKED = 'nobody asked for it to move (TSUNAGI_MOVE=raw, or carry or isResumed in its handler)'

describe('TSUNAGI_MOVE', () => {
  it.each(['raw', 'all', 'ws, raw'])('=%s moves raw connections, and the report says that it did', async (asked) => {
    const line = await startPlain('server.cjs', { env: { TSUNAGI_MOVE: asked } })
    const client = await Client.connect(line.port)
    const predecessor = line.current
    const successor = await nextPlain(line)
    expect(await who(client)).toBe(successor.pid)
    expect(predecessor.all('report')).toMatchObject([
      { moved: 1, movedBy: [{ rule: `TSUNAGI_MOVE=${asked}`, connections: 1 }], stayed: [] },
    ])
  })

  it.each([undefined, 'ws', 'ws,sse', ''])('=%s leaves raw connections to drain, and the report says what to do', async (asked) => {
    const line = await startPlain('server.cjs', { env: asked === undefined ? {} : { TSUNAGI_MOVE: asked } })
    const client = await Client.connect(line.port)
    const [predecessor, successor] = [line.current, line.launch()]
    await successor.untilSaid(TOOK_OVER)
    expect(await who(client)).toBe(predecessor.pid)
    expect(await whoServes(line.port)).toBe(successor.pid)
    expect(await predecessor.until('report')).toMatchObject({ moved: 0, movedBy: [], stayed: [{ reason: NOBODY_ASKED, connections: 1 }] })
    client.end()
    await client.expectEnd()
    expect(await predecessor.exited).toEqual({ code: 0, signal: null })
  })

  it('that names no kind of connection ends the program at its start, and says which kinds there are', async () => {
    const line = await Line.empty(fixture('plain/server.cjs'), { node: REGISTER, env: { TSUNAGI_MOVE: 'websockets' } })
    const started = line.launch()
    expect(await started.exited).toEqual({ code: 1, signal: null })
    expect(started.stderr).toMatch('TSUNAGI_MOVE knows raw, ws, sse and all, not "websockets".')
    expect(started.stderr).toMatch("code: 'ERR_TSUNAGI_OPTION'")
  })
})

describe('"tsunagi": { "move": [...] } in package.json', () => {
  it('moves raw connections; TSUNAGI_MOVE overrides it', async () => {
    const line = await startPlain(application({ tsunagi: { move: ['raw'] } }))
    const client = await Client.connect(line.port)
    const predecessor = line.current
    const successor = await nextPlain(line, { env: { TSUNAGI_MOVE: '' } })
    expect(await who(client)).toBe(successor.pid)
    expect(predecessor.all('report')).toMatchObject([{ movedBy: [{ rule: 'package.json', connections: 1 }] }])
    await line.launch().untilSaid(TOOK_OVER)
    expect(await who(client)).toBe(successor.pid)
    const report = await successor.until('report', ({ role }) => role === 'predecessor')
    expect(report).toMatchObject({ moved: 0, stayed: [{ reason: NOBODY_ASKED }] })
  })

  it('that is no list of kinds ends the program at its start', async () => {
    const line = await Line.empty(application({ tsunagi: { move: 'raw' } }), { node: REGISTER })
    const started = line.launch()
    expect(await started.exited).toEqual({ code: 1, signal: null })
    expect(started.stderr).toMatch(/"tsunagi.move" in .*package.json is an array of raw, ws, sse or all/)
  })
})

describe('an application that asks for a connection', () => {
  it.each(['carry', 'isResumed'])('by %s has it moved, and the report says so', async (ask) => {
    const line = await Line.start('asking.mjs', { node: REGISTER, env: { ASK: ask } })
    const client = await Client.connect(line.port)
    const predecessor = line.current
    const successor = await line.next()
    expect(await who(client)).toBe(successor.pid)
    expect(predecessor.all('handover')).toMatchObject([{ moved: 1, movedBy: [{ rule: ask, connections: 1 }], stayed: [] }])
  })

  it('by nothing at all has it drained, beside one that moves by attach', async () => {
    const line = await Line.start('asking.mjs', { node: REGISTER, mode: { attach: true } })
    const predecessor = line.current
    const clients: Record<string, Client> = {}
    for (const decision of ['move', 'drain', 'close', 'throw', 'nonsense']) {
      clients[decision] = await Client.connect(line.port)
      clients[decision]?.send(decision)
      await clients[decision]?.line()
    }
    const successor = await line.nextWhileDraining()
    await clients['close']?.expectEnd()
    for (const [decision, { pid }] of Object.entries({ move: successor, drain: predecessor, throw: predecessor, nonsense: predecessor })) {
      expect([decision, await who(clients[decision] as Client, decision)]).toEqual([decision, pid])
    }
    const report = await predecessor.until('handover')
    expect(report).toMatchObject({ moved: 1, movedBy: [{ rule: 'attach', connections: 1 }] })
    expect(report['stayed']).toEqual(
      expect.arrayContaining([
        { reason: 'policy: drain', connections: 2 },
        { reason: 'policy: close', connections: 1 },
        { reason: 'policy threw', connections: 1 },
      ]),
    )
    expect(predecessor.stderr).toMatch('the policy is at a loss')
    for (const client of Object.values(clients)) client.end()
    expect((await predecessor.exited).code).toBe(0)
  })
})

describe('a connection that something of the predecessor still uses', () => {
  const each: [word: string, passed: string, reason: string, farewell: string][] = [
    ['hold', 'release', 'defer() holds it', 'last words of the holder\n'],
    ['pipe', 'unpipe', 'a stream of this process is piped into it', ''],
  ]

  it.each(each)('%s: is served on, and moves alone after %s', async (word, passed, reason, farewell) => {
    const [line, client] = await startWith(word)
    const predecessor = line.current
    const successor = await line.nextWhileDraining()
    expect(await who(client)).toBe(predecessor.pid)
    expect(await predecessor.until('handover')).toMatchObject({ moved: 0, stayed: [], later: [{ reason, connections: 1 }] })
    predecessor.tell(passed)
    await client.expect(farewell)
    await successor.until('connection')
    expect(await who(client)).toBe(successor.pid)
    expect(await predecessor.exited).toEqual({ code: 0, signal: null })
    expect(predecessor.all('socket close')).toEqual([])
    expect(client.seen).toEqual([])
  })

  it.each(each)('%s: drains where nobody has asked for it to move, even after %s', async (word, passed, _, farewell) => {
    const [line, client] = await startWith(word, '')
    const predecessor = line.current
    const successor = await line.nextWhileDraining()
    predecessor.tell(passed)
    await client.expect(farewell)
    expect(await who(client)).toBe(predecessor.pid)
    client.end()
    await client.expectEnd()
    expect((await predecessor.exited).code).toBe(0)
    expect(successor.all('connection')).toEqual([])
  })

  it.each(each)('%s: is ended politely at the end of the grace period', async (word) => {
    const [line, client] = await startWith(word, 'raw', { TSUNAGI_GRACE: '0.5' })
    const predecessor = line.current
    await line.nextWhileDraining()
    await client.expectEnd()
    client.end()
    expect(await predecessor.exited).toEqual({ code: 0, signal: null })
    expect(client.seen).not.toContain('error ECONNRESET')
    expect(predecessor.stderr).toMatch('the grace period of 0.5 s is over: 1 connections are ended')
  })

  it('holds no other connection up, and none when it has closed', async () => {
    const [line, holder] = await startWith('hold')
    const other = await Client.connect(line.port)
    const predecessor = line.current
    const successor = await line.nextWhileDraining()
    expect(await who(other)).toBe(successor.pid)
    holder.end()
    await holder.expectEnd()
    expect((await predecessor.exited).code).toBe(0)
  })
})

/** A line with a client that has said `word`. */
async function startWith(word: string, move = 'raw', env: NodeJS.ProcessEnv = {}): Promise<[Line, Client]> {
  const line = await Line.start('asking.mjs', { node: REGISTER, env: { TSUNAGI_MOVE: move, ...env } })
  const client = await Client.connect(line.port)
  client.send(word)
  await client.line()
  return [line, client]
}

async function who(client: Client, word = 'who'): Promise<ServerProcess['pid']> {
  client.send(word)
  return Number(await client.line())
}

/** A program of its own, in a folder with this package.json. */
function application(packageJson: object): string {
  const folder = temporaryDirectory()
  writeFileSync(join(folder, 'package.json'), JSON.stringify(packageJson))
  writeFileSync(join(folder, 'server.cjs'), `require(${JSON.stringify(fixture('plain/server.cjs'))})\n`)
  return join(folder, 'server.cjs')
}
