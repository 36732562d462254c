import { copyFileSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { Fleet } from '../helpers/fleet.js'
import { namesOfKeepers, untilGone } from '../helpers/keeper.js'
import { fixture, freePort, ServerProcess, temporaryDirectory } from '../helpers/process.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const REGISTER = join(ROOT, 'dist', 'register.js')

const SUPERVISORS: [string, string[], string?][] = [
  ['node --watch', [process.execPath, '--watch', '--import', REGISTER]],
  ['nodemon', [process.execPath, join(ROOT, 'node_modules/.bin/nodemon'), '--quiet', '--import', REGISTER]],
  [
    'nodemon with a command',
    [process.execPath, join(ROOT, 'node_modules/.bin/nodemon'), '--quiet', '--exec', `${process.execPath} --import ${REGISTER}`],
  ],
  ['tsx watch', [process.execPath, join(ROOT, 'node_modules/.bin/tsx'), 'watch', '--import', REGISTER]],
]

describe.each(SUPERVISORS)('%s', (_, command) => {
  it('restarts the server at a change, ten times, and no client notices; its end is the end', async () => {
    const { server, ports, touch, directory } = await start(command)
    const fleet = await Fleet.connect({ ...ports, clients: { raw: 200, 'keep-alive': 200, websocket: 200 } })
    for (let restart = 1; restart <= 10; restart++) {
      touch()
      await server.until('raw listening', () => server.all('raw listening').length === restart + 1)
      await fleet.settle()
    }
    expect(fleet.broken).toEqual([])
    const pids = server.all('raw listening').map(({ pid }) => pid as number)
    expect(new Set(pids).size).toBe(11)
    expect(server.stderr.match(/left 600 connections with the keeper/g)).toHaveLength(10)
    server.kill('SIGINT')
    await untilGone(pids.at(-1) as number)
    expect(namesOfKeepers(join(directory, 'tsunagi'))).toEqual([])
  }, 180_000)
})

async function start(command: string[]) {
  const directory = temporaryDirectory()
  const program = join(directory, 'server.mjs')
  symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'))
  copyFileSync(fixture('plain/fleet.mjs'), program)
  const ports = { raw: await freePort(), http: await freePort() }
  const server = new ServerProcess(
    program,
    {
      ...process.env,
      PORT: String(ports.raw),
      HTTP_PORT: String(ports.http),
      TSUNAGI_DIR: join(directory, 'tsunagi'),
      TSUNAGI_MOVE: 'all',
    },
    { command, spawn: { cwd: directory } },
  )
  await server.until('http listening')
  let version = 0
  const touch = () => writeFileSync(program, `${readFileSync(program)}\n// ${++version}\n`)
  return { server, ports, touch, directory }
}
