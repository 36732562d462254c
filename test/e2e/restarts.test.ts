import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it, onTestFinished } from 'vitest'
import { Fleet, type Kind } from '../helpers/fleet.js'
import { table } from '../helpers/generated-page.js'
import { REGISTER } from '../helpers/plain.js'
import { Pm2 } from '../helpers/pm2.js'
import { describePrivileged } from '../helpers/privileged.js'
import { fixture, freePort, Line, ServerProcess, temporaryDirectory, until } from '../helpers/process.js'
import { Service } from '../helpers/systemd-service.js'

const require = createRequire(import.meta.url)

/** A server that is restarted in one of the ways that people have. */
interface Restarted {
  readonly raw: number
  readonly http: number
  /** Resolves when the command has done what it does; a moment may pass until the new process serves. */
  restart(): Promise<unknown>
}

const EACH: Record<Kind, number> = { raw: 200, 'keep-alive': 200, websocket: 200 }
const RESTARTS = 10
const FLEET = fixture('plain/fleet.mjs')
const root = fileURLToPath(new URL('../..', import.meta.url))
const CLI = join(root, 'dist', 'cli.js')

/** What was found, for the page. */
const found = new Map<string, { broken: number; pauses: ReadonlyMap<Kind, number> }>()

describe('every connection lives through', () => {
  row('`node server.js` again', async () => {
    const { line, http } = await startedByHand()
    return {
      raw: line.port,
      http,
      async restart() {
        const predecessor = line.current
        await line.launch().untilSaid(/took \d+ connections over/)
        await predecessor.exited
      },
    }
  })

  row('`kill -USR2`', async () => {
    const { line, http } = await startedByHand()
    return {
      raw: line.port,
      http,
      restart: () => nextProcess(http, (pid) => process.kill(pid, 'SIGUSR2')),
    }
  })

  row('`tsunagi run`, as process 1 of a pid namespace: `kill -HUP 1`', async () => {
    const [raw, http, directory] = [await freePort(), await freePort(), temporaryDirectory()]
    const environment = { ...process.env, TSUNAGI_DIR: directory, TSUNAGI_MOVE: 'all', PORT: String(raw), HTTP_PORT: String(http) }
    const command = ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child', process.execPath]
    const run = new ServerProcess(CLI, environment, { args: ['run', FLEET], command })
    await run.until('http listening')
    let generation = 1
    return {
      raw,
      http,
      async restart() {
        process.kill(supervisorOf(run.pid), 'SIGHUP')
        await run.untilSaid(`(generation ${++generation})`)
      },
    }
  })

  row('nodemon, when a file changes', async () => {
    const [raw, http, directory] = [await freePort(), await freePort(), temporaryDirectory()]
    const program = join(directory, 'server.mjs')
    const write = () => writeFileSync(program, `import ${JSON.stringify(FLEET)}\n// ${Math.random()}\n`)
    write()
    const environment = { ...process.env, TSUNAGI_DIR: directory, TSUNAGI_MOVE: 'all', PORT: String(raw), HTTP_PORT: String(http) }
    const register = join(root, 'dist', 'register.js')
    const options = { spawn: { cwd: directory }, args: ['--quiet', '--watch', directory, '--exec', `node --import ${register}`, program] }
    const nodemon = new ServerProcess(require.resolve('nodemon/bin/nodemon.js'), environment, options)
    onTestFinished(() => endServer(http))
    await nodemon.until('http listening')
    return { raw, http, restart: () => nextProcess(http, write) }
  })

  row('`pm2 reload`, two workers of a cluster', async () => {
    const http = await freePort()
    const pm2 = await Pm2.start({
      script: FLEET,
      instances: 2,
      exec_mode: 'cluster',
      listen_timeout: 20_000, // a busy machine boots a worker in more than PM2's 3 s
      env: { TSUNAGI_MOVE: 'all', HTTP_PORT: String(http) },
    })
    await pm2.until('listening workers', () => (pm2.printed.match(/http listening/g)?.length === 2 ? true : undefined))
    return { raw: pm2.port, http, restart: () => pm2.run('reload', 'app') }
  })

  row('`pm2 restart`, two workers of a cluster, with `TSUNAGI_ON_EXIT=hold`', async () => {
    const http = await freePort()
    const pm2 = await Pm2.start({
      script: FLEET,
      instances: 2,
      exec_mode: 'cluster',
      kill_timeout: 5_000, // nor do 300 connections get from a worker to the keeper in its 1.6 s
      env: { TSUNAGI_MOVE: 'all', TSUNAGI_ON_EXIT: 'hold', TSUNAGI_HOLD: '30', HTTP_PORT: String(http) },
    })
    await pm2.until('listening workers', () => (pm2.printed.match(/http listening/g)?.length === 2 ? true : undefined))
    return { raw: pm2.port, http, restart: () => pm2.run('restart', 'app') }
  })

  row('`pm2 restart`, fork mode, with `TSUNAGI_ON_EXIT=hold`', async () => {
    const http = await freePort()
    const pm2 = await Pm2.start({ script: FLEET, env: { TSUNAGI_MOVE: 'all', TSUNAGI_ON_EXIT: 'hold', HTTP_PORT: String(http) } })
    await pm2.until('listening server', () => (/http listening/.test(pm2.printed) ? true : undefined))
    return { raw: pm2.port, http, restart: () => nextProcess(http, () => pm2.run('restart', 'app')) }
  })
})

describePrivileged('systemd', 'every connection lives through, under systemd 252,', () => {
  row('`systemctl reload`', async () => {
    const http = await freePort()
    const service = await Service.start({ usr: '', http })
    return { raw: service.port, http, restart: () => nextProcess(http, () => service.box.systemctl('reload', 'app')) }
  })

  row('`systemctl restart`, with the descriptor store', async () => {
    const http = await freePort()
    const service = await Service.start({ usr: '', store: 16, http })
    return {
      raw: service.port,
      http,
      async restart() {
        await service.untilStoring()
        await nextProcess(http, () => service.box.systemctl('restart', 'app'))
      },
    }
  })
})

afterAll(() => {
  if (process.env['TSUNAGI_DOCS'] === 'write') writePages()
})

function row(name: string, start: () => Promise<Restarted>): void {
  it(name, { timeout: 300_000 }, async () => {
    const server = await start()
    const fleet = await Fleet.connect({ ...server, clients: EACH, rest: 1000 })
    for (let restart = 1; restart <= RESTARTS; restart++) {
      await server.restart()
      await fleet.settle()
      expect(fleet.broken).toEqual([])
    }
    found.set(name, { broken: fleet.broken.length, pauses: fleet.pauses })
  })
}

async function startedByHand(): Promise<{ line: Line; http: number }> {
  const http = await freePort()
  const line = await Line.empty(FLEET, { node: REGISTER, env: { TSUNAGI_MOVE: 'all', HTTP_PORT: String(http) } })
  await line.launch().until('http listening')
  onTestFinished(() => endServer(http)) // it may be one that a reload has started
  return { line, http }
}

/** Resolves when another process than before answers. */
async function nextProcess(http: number, act: (pid: number) => unknown): Promise<void> {
  const before = await whoAnswers(http)
  await act(before as number)
  await until(async () => ((await whoAnswers(http)) ?? before) !== before)
}

async function whoAnswers(http: number): Promise<number | undefined> {
  try {
    const response = await fetch(`http://127.0.0.1:${http}/pid`, { headers: { connection: 'close' } })
    return Number(await response.text())
  } catch {
    return undefined // nobody, in this moment
  }
}

async function endServer(http: number): Promise<void> {
  const pid = await whoAnswers(http)
  if (pid) process.kill(pid, 'SIGKILL')
}

function supervisorOf(unshare: number): number {
  return Number(readFileSync(`/proc/${unshare}/task/${unshare}/children`, 'utf8').trim())
}

// ---- the pages

function writePages(): void {
  const kinds = Object.keys(EACH) as Kind[]
  const rows = [...found].map(([name, { broken, pauses }]) => [
    name,
    String(broken),
    ...kinds.map((kind) => `${Math.round(pauses.get(kind) ?? 0)} ms`),
  ])
  const printed = `${table(['restarted by', 'broken', ...kinds.map((kind) => `longest pause, ${kind}`)], rows)}\n`
  writeFileSync(
    join(root, 'docs', 'restarts.md'),
    `<!-- Written by \`npm run docs\` from what test/e2e/restarts.test.ts finds. -->
# Restarts

Each row: ${Object.entries(EACH)
      .map(([kind, count]) => `${count} ${kind}`)
      .join(', ')} clients, each on one connection that it never makes anew, ask and check every answer while the server is
restarted ${RESTARTS} times in a row. Broken is a connection that ended, or an answer that was not the right one. The longest pause is the longest
time that any client has waited for an answer, over all ${RESTARTS} restarts; where the old process leaves before the new one starts it holds a start of
Node and of the program. The clients run on the same machine as the server.

${printed}`,
  )
  const readme = join(root, 'README.md')
  const text = readFileSync(readme, 'utf8')
  const [head, rest] = text.split('<!-- restarts -->\n')
  if (rest !== undefined)
    writeFileSync(readme, `${head}<!-- restarts -->\n${printed}<!-- /restarts -->\n${rest.split('<!-- /restarts -->\n')[1]}`)
}
