import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Client } from '../helpers/client.js'
import { fixture, freePort, killChildrenOf, Line, type ServerProcess } from '../helpers/process.js'

const CLI = fileURLToPath(new URL('../../dist/cli.js', import.meta.url))
const CLIENTS = 8
const CANARY = 3
/** Longer than any test: only what the test does ends it. */
const FOR_EVER = { TSUNAGI_CANARY: String(CANARY), TSUNAGI_WATCH: '3600' }
const TIMEOUT = 120_000

describe('a canary that is well', () => {
  it.each(['atomic', 'rolling'])(
    'is followed by the rest and the listener (%s), state migrated, none broken',
    async (mode) => {
      const { line, clients, blue } = await served()
      const green = line.launch({ mode: { version: 2 }, env: { TSUNAGI_CANARY: String(CANARY), TSUNAGI_WATCH: '1', TSUNAGI_MODE: mode } })
      await blue.untilSaid(`lent ${CANARY} connections`)
      await green.until('serving')
      expect(await blue.until('handover')).toMatchObject({ moved: CLIENTS, stayed: [] })
      expect(await green.until('resumed')).toMatchObject({ moved: CLIENTS, generation: 2 })
      expect((await blue.exited).code).toBe(0)
      expect(new Set((await askAll(clients)).map(({ pid, came }) => `${pid} ${came}`))).toEqual(new Set([`${green.pid} 1→2`]))
      expect(broken(clients)).toEqual([])
    },
    TIMEOUT,
  )

  it('leaves the listener and everybody else with the old process while it is watched', async () => {
    const { line, clients, blue } = await served()
    const green = line.launch({ mode: { version: 2 }, env: FOR_EVER })
    await blue.untilSaid(`lent ${CANARY} connections`)
    await expectShared(clients, blue, green)
    const fresh = await Client.connect(line.port)
    expect(await ask(fresh)).toMatchObject({ pid: blue.pid, lines: 1 })
    expect(green.all('serving')).toEqual([])
    expect(blue.all('retiring')).toEqual([])
  })

  it('hears what the old process sends to everybody', async () => {
    const { line, clients, blue } = await served()
    line.launch({ env: FOR_EVER })
    await blue.untilSaid(`lent ${CANARY} connections`)
    blue.tell('broadcast')
    for (const client of clients) await client.expect(`from ${blue.pid}\n`)
  })

  it('ends connections that its application ends, though the old process still has them', async () => {
    const { line, clients, blue } = await served()
    line.launch({ env: FOR_EVER })
    await blue.untilSaid(`lent ${CANARY} connections`)
    const pids = await askAll(clients)
    for (const [i, client] of clients.entries()) {
      if (pids[i]?.pid === blue.pid) continue
      client.send('leave\n')
      await client.closed()
    }
  })
})

describe('a canary that is not well', () => {
  it('gives its connections back, migrated down, when a handler throws for the first of them', async () => {
    const { line, clients, blue } = await served()
    const green = line.launch({ mode: { version: 2, throws: 'connection' }, env: FOR_EVER })
    expect(await green.until('error')).toMatchObject({
      code: 'ERR_TSUNAGI_CANARY',
      serving: true,
      message: expect.stringContaining('is broken'),
    })
    expect((await green.exited).code).toBe(1)
    await expectFailure(blue, `${CANARY} came back, 0 that it may have touched were closed`)
    const answers = await askAll(clients)
    expect(answers.map(({ pid, lines }) => [pid, lines])).toEqual(clients.map(() => [blue.pid, 2]))
    expect(answers.filter(({ came }) => came === '1→2 2→1')).toHaveLength(CANARY)
    expect(broken(clients)).toEqual([])
    await expectNextOneTakes(line, clients, blue)
  })
  const cannotPass = { version: 2, throws: 'line', survives: true }

  it('gives them back when it listens for an exception that nobody has caught', async () => {
    const { line, clients, blue } = await served()
    const green = line.launch({ mode: cannotPass, env: FOR_EVER })
    await blue.untilSaid(`lent ${CANARY} connections`)
    for (const client of clients) client.send('x\n')
    await green.until('uncaught')
    expect(await green.until('error')).toMatchObject({ code: 'ERR_TSUNAGI_CANARY' })
    await expectFailure(blue, `${CANARY} came back, 0`)
    for (const client of clients) client.send('y\n')
    for (const client of clients) expect(read(await client.line()).pid).toBe(blue.pid)
    expect(broken(clients)).toEqual([])
  })

  it('gives them back when its health check fails', async () => {
    const line = await Line.start('shop.mjs')
    const blue = line.current
    const clients = await Client.connectMany(CLIENTS, line.port)
    for (const client of clients) expect(await get(client)).toBe(blue.pid)
    const green = line.launch({ env: { ...FOR_EVER, TSUNAGI_HEALTH: '/healthz' } })
    await blue.untilSaid(`lent ${CANARY} connections`)
    const pids = await Promise.all(clients.map(get))
    expect(pids.filter((pid) => pid === green.pid)).toHaveLength(CANARY)
    green.tell('unwell')
    expect(await green.until('error')).toMatchObject({
      code: 'ERR_TSUNAGI_CANARY',
      message: expect.stringContaining('/healthz was answered with 503'),
    })
    await expectFailure(blue, `${CANARY} came back, 0 that`)
    for (const client of clients) expect(await get(client)).toBe(blue.pid)
    expect(broken(clients)).toEqual([])
  })

  it('gives them back when it fails at most of what it is asked', async () => {
    const line = await Line.start('shop.mjs')
    const blue = line.current
    const clients = await Client.connectMany(CANARY, line.port)
    for (const client of clients) expect(await get(client)).toBe(blue.pid)
    const green = line.launch({ mode: { fails: true }, env: FOR_EVER })
    await blue.untilSaid(`lent ${CANARY} connections`)
    for (const client of clients) expect(await get(client)).toBe(green.pid)
    expect(await green.until('error')).toMatchObject({ message: expect.stringContaining('3 of 3 requests') })
    await expectFailure(blue, `${CANARY} came back, 0 that`)
    for (const client of clients) expect(await get(client)).toBe(blue.pid)
    expect(broken(clients)).toEqual([])
  })

  it('costs what it has touched when it dies: who has said nothing meanwhile is served on', async () => {
    const { line, clients, blue } = await served()
    const green = line.launch({ mode: { version: 2 }, env: FOR_EVER })
    await blue.untilSaid(`lent ${CANARY} connections`)
    const [talker] = await canariesAmong(clients, blue, 1)
    green.kill()
    await expectFailure(blue, `${CANARY - 1} came back, 1 that`)
    await talker?.closed()
    const others = clients.filter((client) => client !== talker)
    expect(new Set((await askAll(others)).map(({ pid }) => pid))).toEqual(new Set([blue.pid]))
    expect(broken(others)).toEqual([])
    await expectNextOneTakes(line, others, blue)
  })

  it('costs the one that it threw for, when it dies of that', async () => {
    const { line, clients, blue } = await served()
    const green = line.launch({ mode: { version: 2, throws: 'line' }, env: FOR_EVER })
    await blue.untilSaid(`lent ${CANARY} connections`)
    const [victim] = await canariesAmong(clients, blue, 1)
    expect((await green.exited).code).toBe(1)
    await expectFailure(blue, `${CANARY - 1} came back, 1 that`)
    await victim?.closed()
    const others = clients.filter((client) => client !== victim)
    expect(new Set((await askAll(others)).map(({ pid }) => pid))).toEqual(new Set([blue.pid]))
    expect(broken(others)).toEqual([])
  })

  it(
    'is killed when it hangs: who has said nothing meanwhile is served on',
    async () => {
      const { line, clients, blue } = await served()
      const green = line.launch({ env: FOR_EVER })
      await blue.untilSaid(`lent ${CANARY} connections`)
      green.kill('SIGSTOP')
      expect((await green.exited).signal).toBe('SIGKILL')
      await expectFailure(blue, `${CANARY} came back, 0 that`)
      expect(new Set((await askAll(clients)).map(({ pid }) => pid))).toEqual(new Set([blue.pid]))
      expect(broken(clients)).toEqual([])
      await expectNextOneTakes(line, clients, blue)
    },
    TIMEOUT,
  )

  it('serves alone when the old process is killed', async () => {
    const { line, clients, blue } = await served()
    const green = line.launch({ env: FOR_EVER })
    await blue.untilSaid(`lent ${CANARY} connections`)
    const canaries = await canariesAmong(clients, blue, CANARY)
    blue.kill()
    await green.until('serving')
    expect(new Set((await askAll(canaries)).map(({ pid }) => pid))).toEqual(new Set([green.pid]))
    expect(await ask(await Client.connect(line.port))).toMatchObject({ pid: green.pid })
    expect(broken(canaries)).toEqual([])
  })
})

describe('a new version that never comes to be a canary', () => {
  it.each([
    'successor-before-ready',
    'successor-before-receive',
    'successor-before-ack',
    'successor-after-commit',
    'successor-before-resumed',
  ])('costs nothing: it dies at %s', async (point) => {
    const { line, clients, blue } = await served()
    await line.launch({ env: { ...FOR_EVER, TSUNAGI_FAULT: `${point}=kill` } }).exited
    const gone = point === 'successor-before-resumed' ? CANARY : 0 // their handlers had run
    const answers = await Promise.all(clients.map((client) => ask(client).catch(() => undefined)))
    expect(answers.filter((answer) => answer === undefined)).toHaveLength(gone)
    expect(new Set(answers.flatMap((answer) => answer?.pid ?? []))).toEqual(new Set([blue.pid]))
    const rest = clients.filter((_, i) => answers[i])
    expect(broken(rest)).toEqual([])
    await expectNextOneTakes(line, rest, blue)
  })

  it('is refused where a server carries state for all its connections', async () => {
    const { line, clients, blue } = await served({ carries: true })
    const green = line.launch({ mode: { carries: true }, env: FOR_EVER })
    expect(await green.until('error')).toMatchObject({ code: 'ERR_TSUNAGI_ROLLING_STATE', serving: true })
    expect((await green.exited).code).toBe(1)
    expect(new Set((await askAll(clients)).map(({ pid }) => pid))).toEqual(new Set([blue.pid]))
  })

  it.each(['0', 'some', '1.5'])('is refused where TSUNAGI_CANARY is %s', async (value) => {
    const { line, clients, blue } = await served()
    const green = line.launch({ env: { TSUNAGI_CANARY: value } })
    expect(await green.until('error')).toMatchObject({ code: 'ERR_TSUNAGI_OPTION' })
    expect(new Set((await askAll(clients)).map(({ pid }) => pid))).toEqual(new Set([blue.pid]))
  })
})

describe('reload({ canary, watch })', () => {
  it('resolves when the new version has been well and has everybody', async () => {
    const { clients, blue } = await served({}, { WATCH: '1000' })
    blue.tell('reload')
    expect(await blue.until('reloaded')).toMatchObject({ moved: CLIENTS })
    const [first] = await askAll(clients)
    expect(first?.pid).not.toBe(blue.pid)
    onTestFinished(() => void process.kill(first?.pid as number, 'SIGKILL'))
    if (blue.child.exitCode === null) await once(blue.child, 'exit') // its output is the new version's as well, and stays open
    expect(blue.child.exitCode).toBe(0)
    expect(broken(clients)).toEqual([])
  })

  it('rejects with why it was not well, and with what it has printed', async () => {
    const { clients, blue } = await served({}, { WATCH: '3600000', NEXT_MODE: JSON.stringify({ throws: 'connection' }) })
    blue.tell('reload')
    expect(await blue.until('reload failed')).toMatchObject({
      code: 'ERR_TSUNAGI_CANARY',
      message: expect.stringMatching(/is broken[\s\S]*2 came back, 0/),
    })
    expect(new Set((await askAll(clients)).map(({ pid }) => pid))).toEqual(new Set([blue.pid]))
    expect(broken(clients)).toEqual([])
    blue.tell('reload')
    await blue.until('reload failed', () => blue.all('reload failed').length === 2)
  })

  it('is refused while a canary is watched already', async () => {
    const { line, clients, blue } = await served()
    const green = line.launch({ env: FOR_EVER })
    await blue.untilSaid(`lent ${CANARY} connections`)
    blue.tell('reload')
    expect(await blue.until('reload failed')).toMatchObject({ code: 'ERR_TSUNAGI_BUSY' })
    const another = line.launch()
    expect(await another.until('error')).toMatchObject({ code: 'ERR_TSUNAGI_BUSY', serving: true })
    await expectShared(clients, blue, green)
  })
})

describe('a canary by name', () => {
  it('comes from a process on another port, and goes back there when the new version is not well', async () => {
    const { line, clients, blue } = await served({}, { TSUNAGI_NAME: 'canaries' })
    const env = { ...FOR_EVER, TSUNAGI_NAME: 'canaries' }
    const unfit = line.launch({ mode: { version: 2, throws: 'connection' }, env: { ...env, PORT: String(await freePort()) } })
    expect(await unfit.until('error')).toMatchObject({ code: 'ERR_TSUNAGI_CANARY' })
    await expectFailure(blue, `${CANARY} came back, 0 that`)
    expect((await askAll(clients)).filter(({ pid, came }) => pid === blue.pid && came === '1→2 2→1')).toHaveLength(CANARY)
    expect(await ask(await Client.connect(line.port))).toMatchObject({ pid: blue.pid })

    const well = line.launch({ mode: { version: 2 }, env: { ...env, TSUNAGI_WATCH: '1', PORT: String(await freePort()) } })
    await well.until('serving')
    expect((await blue.exited).code).toBe(0)
    expect(new Set((await askAll(clients)).map(({ pid }) => pid))).toEqual(new Set([well.pid]))
    expect(broken(clients)).toEqual([])
  })
})

describe('tsunagi reload --canary', () => {
  it(
    'lends, watches and says how that went, also where the server runs under `tsunagi run`',
    async () => {
      const line = await Line.empty('canary.mjs')
      const brokenIf = join(line.directory, 'broken')
      const run = line.launch({ mode: { brokenIf }, args: ['run', fixture('canary.mjs')] }, CLI)
      onTestFinished(() => killChildrenOf(run.pid))
      await run.until('serving')
      const clients = await Client.connectMany(CLIENTS, line.port)
      const [first] = await askAll(clients)

      writeFileSync(brokenIf, '')
      const failed = await cli(line, 'reload', '--canary', '2', '--watch', '3600')
      expect(failed).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(/is broken[\s\S]*2 came back, 0 that[\s\S]*ERR_TSUNAGI_CANARY/),
      })
      expect(new Set((await askAll(clients)).map(({ pid }) => pid))).toEqual(new Set([first?.pid]))

      rmSync(brokenIf)
      const done = await cli(line, 'reload', '--canary', '2', '--watch', '1')
      expect(done).toMatchObject({ code: 0, stdout: expect.stringContaining(`${CLIENTS} connections moved`) })
      const pids = new Set((await askAll(clients)).map(({ pid }) => pid))
      expect([...pids]).toHaveLength(1)
      expect(pids).not.toContain(first?.pid)
      expect(broken(clients)).toEqual([])

      expect(await cli(line, 'reload', '--canary', 'some')).toMatchObject({ code: 64 })
    },
    TIMEOUT,
  )
})

async function cli({ directory }: Line, ...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = execFile(process.execPath, [CLI, ...args], { env: { ...process.env, TSUNAGI_DIR: directory } })
  let [stdout, stderr] = ['', '']
  child.stdout?.on('data', (text) => {
    stdout += text
  })
  child.stderr?.on('data', (text) => {
    stderr += text
  })
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, stdout, stderr }
}

async function served(mode: Record<string, unknown> = {}, env: NodeJS.ProcessEnv = {}) {
  const line = await Line.start('canary.mjs', { mode, env })
  const clients = await Client.connectMany(CLIENTS, line.port)
  const blue = line.current
  expect(new Set((await askAll(clients)).map(({ pid }) => pid))).toEqual(new Set([blue.pid]))
  return { line, clients, blue }
}

interface Answer {
  readonly pid: number
  readonly lines: number
  readonly came: string
}

async function ask(client: Client): Promise<Answer> {
  client.send('who\n')
  return read(await client.line())
}

function read(line: string): Answer {
  const [pid, lines, ...came] = line.split(' ')
  return { pid: Number(pid), lines: Number(lines), came: came.join(' ') }
}

async function askAll(clients: readonly Client[]): Promise<Answer[]> {
  for (const client of clients) client.send('who\n')
  return Promise.all(clients.map(async (client) => read(await client.line())))
}

async function expectShared(clients: readonly Client[], blue: ServerProcess, green: ServerProcess): Promise<void> {
  const pids = (await askAll(clients)).map(({ pid }) => pid)
  expect(pids.filter((pid) => pid === green.pid)).toHaveLength(CANARY)
  expect(pids.filter((pid) => pid === blue.pid)).toHaveLength(CLIENTS - CANARY)
}

async function expectFailure(blue: ServerProcess, what: string | RegExp): Promise<void> {
  const failed = await blue.until('handover-failed')
  expect(failed).toMatchObject({ code: 'ERR_TSUNAGI_CANARY', serving: true })
  expect(failed['message']).toMatch(what)
}

/** Nothing of the failed one is in the way. */
async function expectNextOneTakes(line: Line, clients: readonly Client[], blue: ServerProcess): Promise<void> {
  const next = line.launch({ mode: { version: 1 } })
  await next.until('serving')
  expect((await blue.exited).code).toBe(0)
  expect(new Set((await askAll(clients)).map(({ pid }) => pid))).toEqual(new Set([next.pid]))
  expect(broken(clients)).toEqual([])
}

function broken(clients: readonly Client[]): string[] {
  return clients.flatMap(({ seen }) => seen)
}

/** Asks clients one by one until so many were found that the canary has; the others of those say nothing. */
async function canariesAmong(clients: readonly Client[], { pid }: ServerProcess, count: number): Promise<Client[]> {
  const found: Client[] = []
  for (const client of clients) {
    if (found.length === count) break
    const answer = await ask(client).catch(() => undefined)
    if (answer?.pid !== pid) found.push(client)
  }
  return found
}

/** Who answers on a connection that is kept alive. */
async function get(client: Client): Promise<number> {
  client.send('GET / HTTP/1.1\r\nHost: shop\r\n\r\n')
  let line = await client.line()
  while (line !== '\r') line = await client.line()
  return Number(await client.line())
}
