import { spawnSync } from 'node:child_process'
import { chmodSync, chownSync, readdirSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { Client } from '../helpers/client.js'
import { namesOfKeepers, pidOfKeeper, untilGone } from '../helpers/keeper.js'
import { REGISTER } from '../helpers/plain.js'
import { describePrivileged } from '../helpers/privileged.js'
import { fixture, Line, stateOf } from '../helpers/process.js'

/** Longer than any test waits. */
const LONG = { TSUNAGI_ON_EXIT: 'hold', TSUNAGI_HOLD: '50' }
/** With it, connections that no keeper takes are saved as a snapshot. */
const WITHOUT_NET_ADMIN =
  process.geteuid?.() === 0 ? ['setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin', '--', process.execPath] : [process.execPath]

describe('a predecessor that is killed', () => {
  it.each(['predecessor-before-freeze', 'predecessor-before-put', 'keeper-amid-tape'])(
    '(%s) takes its connections with it, and leaves nothing',
    async (point) => {
      const { line, clients } = await echoed({ ...LONG, TSUNAGI_FAULT: `${point}=kill` })
      await leave(line, 'SIGKILL')
      for (const client of clients) await client.closed()
      expect(namesOfKeepers(line.directory)).toEqual([])
      await serves(line)
    },
  )

  it.each(['keeper-before-ack', 'keeper-before-commit', 'predecessor-after-put'])(
    '(%s) once everything is on its way to the keeper has left its connections: nobody else can own them',
    async (point) => {
      const { line, clients } = await echoed({ ...LONG, TSUNAGI_FAULT: `${point}=kill` })
      await leave(line, 'SIGKILL')
      await untilKept(line)
      await takenOver(line, clients)
    },
  )
})

describe('a predecessor that fails', () => {
  it.each(['predecessor-before-freeze', 'predecessor-before-put', 'keeper-amid-tape', 'keeper-before-ack', 'keeper-before-commit'])(
    '(%s) lets its connections drain, and leaves nothing',
    async (point) => {
      const { line, clients } = await echoed({ ...LONG, TSUNAGI_FAULT: `${point}=throw` })
      await leave(line, 'SIGINT')
      for (const client of clients) await client.expectEnd()
      expect(line.current.stderr).toMatch(/drain/)
      expect(namesOfKeepers(line.directory)).toEqual([])
      await serves(line)
    },
  )
})

describe('a successor that is killed', () => {
  it.each(['successor-after-find', 'successor-before-receive', 'successor-after-open'])(
    '(%s) before its commit costs nothing: the keeper waits for the next one',
    async (point) => {
      const { line, clients } = await echoed(LONG)
      await leave(line, 'SIGINT')
      await line.launch({ env: { ...LONG, TSUNAGI_FAULT: `${point}=kill` } }).exited
      for (const client of clients) client.send('two')
      expect(await line.launch().until('resumed')).toMatchObject({ holder: 'keeper', moved: clients.length })
      for (const client of clients) await client.expect('two')
    },
  )

  it('(successor-after-commit) takes the connections with it: nobody else may own them', async () => {
    const { line, clients } = await echoed(LONG)
    await leave(line, 'SIGINT')
    const keeper = pidOfKeeper(line.directory)
    await line.launch({ env: { ...LONG, TSUNAGI_FAULT: 'successor-after-commit=kill' } }).exited
    for (const client of clients) await client.closed()
    await untilGone(keeper)
    expect(namesOfKeepers(line.directory)).toEqual([])
    await serves(line)
  })

  it('while it boots costs nothing either', async () => {
    const { line, clients } = await echoed(LONG)
    await leave(line, 'SIGINT')
    const hanging = line.launch({ env: { ...LONG, TSUNAGI_FAULT: 'successor-after-find=stop' } })
    await hanging.untilStopped()
    const second = line.launch() // it is told that somebody is there
    expect(await second.until('error')).toMatchObject({ code: 'ERR_TSUNAGI_BUSY' })
    await second.exited
    hanging.kill('SIGKILL')
    await hanging.exited
    await takenOver(line, clients)
  })
})

describe('a keeper that is killed', () => {
  it('takes the connections with it; the next process serves, and removes its name', async () => {
    const { line, clients } = await echoed(LONG)
    await leave(line, 'SIGINT')
    process.kill(pidOfKeeper(line.directory), 'SIGKILL')
    for (const client of clients) await client.closed()
    expect(namesOfKeepers(line.directory)).toHaveLength(1)
    await serves(line)
    await leave(line, 'SIGINT')
    await serves(line)
    expect(namesOfKeepers(line.directory)).toEqual([])
  })

  it('once the successor has everything costs nothing', async () => {
    const { line, clients } = await echoed(LONG)
    await leave(line, 'SIGINT')
    const keeper = pidOfKeeper(line.directory)
    const successor = line.launch({ env: { ...LONG, TSUNAGI_FAULT: 'successor-after-open=stop' } })
    await successor.untilStopped()
    process.kill(keeper, 'SIGTERM') // does not count any more
    process.kill(keeper, 'SIGKILL')
    await untilGone(keeper)
    successor.kill('SIGCONT')
    expect(await successor.until('resumed')).toMatchObject({ moved: clients.length })
    for (const client of clients) {
      client.send('two')
      await client.expect('two')
    }
    expect(readdirSync(line.directory).filter((name) => name.startsWith('.'))).toEqual([])
  })
})

describe('a second signal', () => {
  it('half a second after the first really stops: nobody is to come back for anything', async () => {
    // Its own shutdown code takes for ever.
    const line = await Line.empty(fixture('plain/supervised.mjs'), { node: REGISTER, env: { ...LONG, STAYS: '1', TSUNAGI_MOVE: 'raw' } })
    await line.launch().until('raw listening')
    const client = await Client.connect(line.port)
    client.send('hello\n')
    await client.expect('hello\n')
    line.current.kill('SIGINT')
    await line.current.untilSaid('left 1 connection with the keeper')
    const keeper = pidOfKeeper(line.directory)
    line.current.kill('SIGINT') // the same one again, as the terminal and npm send it
    await delay(600) // what tells them apart is the time between them
    expect(stateOf(keeper)).toBe('S')
    line.current.kill('SIGINT')
    await client.expectEnd()
    await untilGone(keeper)
    expect(namesOfKeepers(line.directory)).toEqual([])
    await expect(Client.connect(line.port)).rejects.toThrow('ECONNREFUSED')
  })
})

describePrivileged('other-uid', 'a process of another user', () => {
  it('gets nothing from a keeper', async () => {
    const { line, clients } = await echoed(LONG)
    await leave(line, 'SIGINT')
    const [name] = namesOfKeepers(line.directory)
    const code = `
      const socket = require('node:net').connect(${JSON.stringify(`${line.directory}/${name}`)})
      let bytes = 0
      socket.on('data', (data) => { bytes += data.length })
      socket.on('error', (error) => console.log(error.code))
      socket.on('end', () => console.log('end', bytes))`
    // Not even where the directory and the socket are open to it.
    chmodSync(line.directory, 0o777)
    chmodSync(`${line.directory}/${name}`, 0o777)
    chownSync(`${line.directory}/${name}`, 65534, 65534)
    const { stdout } = spawnSync(process.execPath, ['-e', code], { uid: 65534, gid: 65534, encoding: 'utf8' })
    expect(stdout).toMatch(/^(end 0|ECONNRESET)\n$/)
    chmodSync(line.directory, 0o700)
    await takenOver(line, clients)
  })
})

async function echoed(env: NodeJS.ProcessEnv) {
  const line = await Line.start('counted-echo.mjs', { env, command: WITHOUT_NET_ADMIN })
  line.settings.env = LONG // what is started later has no fault
  const clients = await Client.connectMany(3, line.port)
  for (const client of clients) {
    client.send('one')
    await client.expect('one')
  }
  return { line, clients }
}

async function leave(line: Line, signal: NodeJS.Signals): Promise<void> {
  line.current.kill('SIGINT')
  expect(await line.current.exited).toEqual({ code: null, signal })
}

/** Its predecessor is gone, and the keeper may still be reading. */
async function untilKept(line: Line): Promise<void> {
  while (namesOfKeepers(line.directory).length === 0) await delay(1)
}

async function takenOver(line: Line, clients: Client[]): Promise<void> {
  const successor = line.launch()
  expect(await successor.until('resumed')).toMatchObject({ holder: 'keeper', moved: clients.length, stayed: [] })
  for (const client of clients) {
    client.send('two')
    await client.expect('two')
  }
}

async function serves(line: Line): Promise<void> {
  await line.launch().until('serving')
  const client = await Client.connect(line.port)
  client.send('anew')
  await client.expect('anew')
}
