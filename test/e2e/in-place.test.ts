import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Fleet } from '../helpers/fleet.js'
import { REGISTER, whoServes } from '../helpers/plain.js'
import { fixture, freePort, ServerProcess, temporaryDirectory } from '../helpers/process.js'

const FLEET = fixture('plain/fleet.mjs')
const EACH = { raw: 20, 'keep-alive': 20, websocket: 20 }

describe('a reload in place', () => {
  it.each([
    ['of a process that asks for it', [process.execPath], { TSUNAGI_RELOAD: 'in-place' }],
    ['of process 1 of a pid namespace', ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child', process.execPath], {}],
  ])('%s keeps its number and every connection, three times', async (_, command, more) => {
    const server = await start(command, more)
    const fleet = await Fleet.connect({ ...server, clients: EACH })
    for (let generation = 2; generation <= 4; generation++) {
      process.kill(server.pid(), 'SIGUSR2')
      await server.process.untilSaid(`(generation ${generation})`)
      await fleet.settle()
      expect(fleet.broken).toEqual([])
    }
    const pids = server.process.all('http listening').map(({ pid }) => pid)
    expect(new Set(pids).size).toBeGreaterThan(1) // the trials
    expect(pids.at(-1)).toBe(pids[0])
  })

  it('to a version that does not boot costs nothing, and says why', async () => {
    const server = await start([process.execPath], { TSUNAGI_RELOAD: 'in-place' })
    const fleet = await Fleet.connect({ ...server, clients: EACH })
    server.deploy('if (process.env.TSUNAGI_TRIAL) throw new Error("no database")')
    process.kill(server.pid(), 'SIGUSR2')
    await server.process.untilSaid(/The new version does not boot: it ended with exit code 1 in its trial/)
    await fleet.settle()
    expect(fleet.broken).toEqual([])
    server.deploy('')
    process.kill(server.pid(), 'SIGUSR2')
    await server.process.untilSaid('(generation 2)')
    await fleet.settle()
    expect(fleet.broken).toEqual([])
  })

  it('tries a version without the clients meeting it', async () => {
    const server = await start([process.execPath], { TSUNAGI_RELOAD: 'in-place' })
    await Fleet.connect({ ...server, clients: { raw: 1 } }) // it serves: asked before, it would refuse
    server.deploy('if (process.env.TSUNAGI_TRIAL) await new Promise((resolve) => setTimeout(resolve, 500))')
    process.kill(server.pid(), 'SIGUSR2')
    const answers = new Set<string>()
    while (!server.process.stderr.includes('(generation 2)')) answers.add(await (await fetch(`http://127.0.0.1:${server.http}/pid`)).text())
    expect([...answers]).toHaveLength(1)
  })

  it('keeps the channel to the process that has forked it', async () => {
    const [port, directory] = [await freePort(), temporaryDirectory()]
    const env = {
      ...process.env,
      TSUNAGI_DIR: directory,
      TSUNAGI_RELOAD: 'in-place',
      TSUNAGI_MOVE: 'all',
      MODE: '{}',
      PORT: String(port),
      HOST: '127.0.0.1',
    }
    const child = fork(fixture('plain/channel.cjs'), { execArgv: REGISTER, env, stdio: ['pipe', 'ignore', 'ignore', 'ipc'] })
    onTestFinished(() => void child.kill('SIGKILL'))
    const next = async () => (await once(child, 'message'))[0]
    expect(await next()).toEqual({ serving: child.pid })
    for (const word of ['one', 'two', 'three']) {
      expect(await whoServes(port)).toBe(child.pid) // it serves: asked before, it would refuse
      child.kill('SIGUSR2')
      expect(await next()).toEqual({ serving: child.pid })
      const answered = next()
      child.send(word)
      expect(await answered).toEqual({ message: word, pid: child.pid })
    }
  })
})

async function start(command: readonly string[], more: NodeJS.ProcessEnv) {
  const [raw, http, directory] = [await freePort(), await freePort(), temporaryDirectory()]
  const program = join(directory, 'server.mjs')
  const deploy = (text: string) => writeFileSync(program, `${text}\nawait import(${JSON.stringify(FLEET)})`)
  deploy('')
  const environment = { ...process.env, TSUNAGI_DIR: directory, TSUNAGI_MOVE: 'all', PORT: String(raw), HTTP_PORT: String(http), ...more }
  const server = new ServerProcess(program, environment, { command, node: REGISTER })
  await server.until('http listening')
  const isUnshared = command[0] === 'unshare'
  const pid = () => (isUnshared ? Number(readFileSync(`/proc/${server.pid}/task/${server.pid}/children`, 'utf8').trim()) : server.pid)
  return { process: server, raw, http, deploy, pid }
}
