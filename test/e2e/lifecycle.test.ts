import { appendFileSync, mkdirSync, readdirSync, readFileSync, renameSync, watch, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Client } from '../helpers/client.js'
import { fixture, Line, type ServerProcess, temporaryDirectory } from '../helpers/process.js'

const EXAMPLE = fileURLToPath(new URL('../../examples/lifecycle/server.js', import.meta.url))
/** A busy machine is late as well, ms. */
const PERIOD = 1_500
const RELOADS = 5

describe('what only one process may do at a time, over five reloads', () => {
  it('no tick is seen twice, and none is missed or late by a period', async () => {
    const { line, reload } = await start()
    const clients = await Client.connectMany(3, line.port)
    const seen = clients.map(() => [] as { tick: number; late: number }[])
    for (let i = 0; i <= RELOADS; i++) {
      await Promise.all(clients.map(async (client, at) => seen[at]?.push(await tickOf(client))))
      if (i < RELOADS) await reload()
    }
    await Promise.all(clients.map(async (client, at) => seen[at]?.push(await tickOf(client))))
    for (const ticks of seen) {
      const first = ticks[0]?.tick as number
      expect(ticks.map(({ tick }) => tick)).toEqual(ticks.map((_, at) => first + at))
      expect(Math.max(...ticks.map(({ late }) => late))).toBeLessThan(PERIOD)
    }
    expect(clients.flatMap((client) => client.seen)).toEqual([])
  })

  it('each job is done, and done once', async () => {
    const { folder, reload } = await start()
    const jobs = join(folder, 'jobs')
    const names = Array.from({ length: 60 }, (_, number) => `job-${String(number).padStart(2, '0')}`)
    const add = (name: string) => {
      writeFileSync(join(jobs, `${name}.new`), name)
      renameSync(join(jobs, `${name}.new`), join(jobs, `${name}.job`))
    }
    const result = (name: string) => readFileSync(join(jobs, `${name}.done`), { encoding: 'utf8', flag: 'a+' })
    for (let i = 0; i < RELOADS; i++) {
      names.slice(10 * i, 10 * i + 10).forEach(add)
      await reload()
    }
    names.slice(10 * RELOADS).forEach(add)
    await untilIn(jobs, () => names.every((name) => result(name).endsWith('\n')))
    for (const name of names) expect(result(name)).toBe(`${name.toUpperCase()}\n`)
    expect(readdirSync(jobs).filter((file) => file.includes('.taken-by-'))).toHaveLength(names.length)
  })

  it('one leads at a time, in the order of the processes', async () => {
    const { folder, reload, pids } = await start()
    const journal = join(folder, 'journal')
    for (let i = 0; i < RELOADS; i++) {
      await untilIn(folder, () => journalOf(journal).at(-1) === `${pids.at(-1)} leads`)
      await reload()
    }
    await untilIn(folder, () => journalOf(journal).at(-1) === `${pids.at(-1)} leads`)
    const expected = pids.flatMap((pid) => [`${pid} leads`, `${pid} resigns`]).slice(0, -1)
    expect(journalOf(journal)).toEqual(expected)
  })

  it('a leader that was killed has a successor: its lock counts for nothing', async () => {
    const { line, folder, pids, launch } = await start()
    const journal = join(folder, 'journal')
    await untilIn(folder, () => journalOf(journal).at(-1) === `${pids.at(-1)} leads`)
    line.current.kill()
    await line.current.exited
    await launch()
    await untilIn(folder, () => journalOf(journal).at(-1) === `${pids.at(-1)} leads`)
  })
})

describe('owned()', () => {
  const each: [string, string, string][] = [
    ['in a program that listens on a port that is given to it', 'server.listen(0)', 'owned'],
    ['in a program that never listens, and waits for nothing else', '', 'owned'],
    ['in a cluster worker', 'server.listen(Number(process.env.PORT))', 'owned'],
  ]

  it.each(each)('resolves %s', async (title, listen, event) => {
    const isWorker = title.includes('cluster')
    const line = await Line.empty(program(listen, isWorker))
    const started = line.launch()
    await started.until(event)
    started.kill('SIGTERM')
  })

  it('waits for the predecessor where the first listener of the new version is one that the old one does not have', async () => {
    const folder = temporaryDirectory()
    const line = await Line.empty(program('server.listen(Number(process.env.PORT))', false, folder))
    await line.launch().until('owned')
    writeFileSync(join(folder, 'program.mjs'), source('createServer().listen(0)\nserver.listen(Number(process.env.PORT))'))
    await Client.connect(line.port)
    const successor = line.launch()
    await successor.until('owned')
    expect(successor.told.map(({ event }) => event)).toEqual(['connection', 'owned'])
    expect(await line.generations[0]?.exited).toEqual({ code: 0, signal: null })
    expect(line.generations[0]?.all('retiring')).toHaveLength(1)
  })
})

/** The example, in a folder of its own. */
async function start() {
  const folder = temporaryDirectory()
  mkdirSync(join(folder, 'jobs'))
  const line = await Line.empty(EXAMPLE, {
    // Its output is for people, and only JSON is read here.
    node: ['--import', 'data:text/javascript,console.log=(l)=>process.stdout.write(JSON.stringify({event:l})+"\\n")'],
    env: { FOLDER: folder, PERIOD: String(PERIOD) },
    host: '127.0.0.1',
  })
  const pids: number[] = []
  const launch = async (): Promise<ServerProcess> => {
    const started = line.launch()
    pids.push(started.pid)
    await started.until(`process ${started.pid} serves`)
    return started
  }
  await launch()
  return {
    line,
    folder,
    pids,
    launch,
    async reload() {
      const predecessor = line.current
      await launch()
      expect(await predecessor.exited).toEqual({ code: 0, signal: null })
    },
  }
}

async function tickOf(client: Client): Promise<{ tick: number; late: number }> {
  const [, tick, late] = /^tick (\d+), (-?\d+) ms late$/.exec(await client.line()) ?? []
  return { tick: Number(tick), late: Number(late) }
}

function journalOf(file: string): string[] {
  appendFileSync(file, '') // there may be none yet
  return readFileSync(file, 'utf8').split('\n').filter(Boolean)
}

/** Resolves once a folder's files are as wanted; looks whenever one of them changes. */
async function untilIn(folder: string, fits: (files: string[]) => boolean): Promise<void> {
  if (fits(readdirSync(folder))) return
  await new Promise<void>((resolve) => {
    const watcher = watch(folder, look)
    onTestFinished(() => watcher.close())
    look()

    function look() {
      if (!fits(readdirSync(folder))) return
      watcher.close()
      resolve()
    }
  })
}

function program(listen: string, isWorker: boolean, folder = temporaryDirectory()): string {
  const file = join(folder, 'program.mjs')
  const primary = `import cluster from 'node:cluster'\nif (cluster.isPrimary) cluster.fork()\nelse await import('./worker.mjs')\n`
  if (isWorker) writeFileSync(join(folder, 'worker.mjs'), source(listen))
  writeFileSync(file, isWorker ? primary : source(listen))
  return file
}

function source(listen: string): string {
  return `
    import { writeSync } from 'node:fs'
    import { createServer, owned, ready, retiring } from ${JSON.stringify(fixture('../../dist/index.js'))}
    const tell = (event) => writeSync(1, JSON.stringify({ event }) + '\\n')
    const server = createServer()
    server.on('connection', () => tell('connection'))
    retiring.addEventListener('abort', () => tell('retiring'))
    ${listen}
    ready()
    await owned()
    tell('owned')
  `
}
