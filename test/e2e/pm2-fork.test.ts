import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { Client } from '../helpers/client.js'
import { Fleet } from '../helpers/fleet.js'
import { namesOfKeepers } from '../helpers/keeper.js'
import { Pm2 } from '../helpers/pm2.js'
import { fixture, freePort } from '../helpers/process.js'

describe.each(['restart', 'reload'])('pm2 %s of a fork', (command) => {
  it('keeps every connection, ten times; PM2 counts right and starts nothing else', async () => {
    const { pm2, ports } = await start()
    const fleet = await Fleet.connect({ ...ports, clients: { raw: 200, 'keep-alive': 200, websocket: 200 } })
    let pid = (await pm2.list())[0]?.pid
    for (let restart = 1; restart <= 10; restart++) {
      await pm2.run(command, 'app')
      await fleet.settle()
      const list = await pm2.list()
      expect(list).toMatchObject([{ pm2_env: { status: 'online', restart_time: restart } }])
      expect(list[0]?.pid).not.toBe(pid)
      pid = list[0]?.pid
    }
    expect(fleet.broken).toEqual([])
  }, 180_000)
})

describe('a fork of PM2', () => {
  it.each([
    ['with wait_ready', { wait_ready: true, listen_timeout: 20_000 }],
    ['with shutdown_with_message', { shutdown_with_message: true }],
    ['without treekill', { treekill: false }],
  ])('%s keeps every connection', async (_, options) => {
    const { pm2, ports } = await start(options)
    const fleet = await Fleet.connect({ ...ports, clients: { raw: 20, 'keep-alive': 20, websocket: 20 } })
    for (let restart = 1; restart <= 2; restart++) {
      await pm2.run('restart', 'app')
      await fleet.settle()
    }
    expect(fleet.broken).toEqual([])
    expect(await pm2.list()).toMatchObject([{ pm2_env: { status: 'online', restart_time: 2 } }])
  })

  it('that does not end before PM2 kills it has left its connections before', async () => {
    const { pm2, ports } = await start({ kill_timeout: 700 }, { STAYS: '1' })
    const fleet = await Fleet.connect({ ...ports, clients: { raw: 20, 'keep-alive': 20, websocket: 20 } })
    await pm2.run('restart', 'app')
    await fleet.settle()
    expect(fleet.broken).toEqual([])
  })

  it('leaves its connections across pm2 kill and pm2 resurrect', async () => {
    const { pm2, ports } = await start({}, { TSUNAGI_HOLD: '30' })
    const fleet = await Fleet.connect({ ...ports, clients: { raw: 20, 'keep-alive': 20, websocket: 20 } })
    await pm2.run('save')
    await pm2.run('kill')
    await pm2.run('resurrect')
    await fleet.settle()
    expect(fleet.broken).toEqual([])
  })

  it('that is stopped is stopped: its clients get their end after the hold time, and nothing is left', async () => {
    const { pm2, ports } = await start({}, { TSUNAGI_HOLD: '1' })
    const clients = await Client.connectMany(5, ports.raw)
    for (const client of clients) client.send('hello\n')
    for (const client of clients) await client.expect('hello\n')
    await pm2.run('stop', 'app')
    for (const client of clients) await client.expectEnd()
    expect(clients.flatMap(({ seen }) => seen).filter((event) => event.startsWith('error'))).toEqual([])
    expect(namesOfKeepers(join(pm2.home, 'tsunagi'))).toEqual([])
    expect(await pm2.list()).toMatchObject([{ pm2_env: { status: 'stopped' } }])
    await expect(Client.connect(ports.raw)).rejects.toThrow('ECONNREFUSED')
  })

  it('that is stopped ends its connections as soon as it is clear that PM2 starts nobody, unless a time is asked for', async () => {
    const { pm2, ports } = await start()
    const [raw, http] = [await freePort(), await freePort()]
    const env = { ...pm2.described.env, PORT: String(raw), HTTP_PORT: String(http), TSUNAGI_HOLD: '12' }
    pm2.describe({ ...pm2.described, name: 'other', env })
    await pm2.run('start', pm2.ecosystem)
    await pm2.until(`a listener on ${raw}`, () => canConnect(raw))
    const [clients, other] = [await Client.connectMany(5, ports.raw), await Client.connect(raw)]
    for (const client of [...clients, other]) {
      client.send('hello\n')
      await client.expect('hello\n')
    }
    await pm2.run('stop', 'all')
    for (const client of clients) await client.expectEnd()
    expect(other.seen).toEqual([])
    await other.expectEnd()
    expect(namesOfKeepers(join(pm2.home, 'tsunagi'))).toEqual([])
  })

  it('of a version that ends at its start costs nothing but time, if the next one comes soon', async () => {
    const { pm2, ports } = await start({ autorestart: false }, { TSUNAGI_HOLD: '30' })
    const fleet = await Fleet.connect({ ...ports, clients: { raw: 20, 'keep-alive': 20, websocket: 20 } })
    const broken = join(pm2.home, 'broken')
    writeFileSync(broken, '')
    await pm2.run('restart', 'app')
    await pm2.until('the end of the broken version', async () => ((await pm2.list())[0]?.pm2_env.status === 'stopped' ? true : undefined))
    writeFileSync(broken, 'mended')
    await pm2.run('restart', 'app')
    await fleet.settle()
    expect(fleet.broken).toEqual([])
  })
})

async function start(options: Record<string, unknown> = {}, env: Record<string, string> = {}) {
  const http = await freePort()
  const pm2 = await Pm2.start({
    script: fixture('plain/supervised.mjs'),
    ...options,
    env: { HTTP_PORT: String(http), TSUNAGI_ON_EXIT: 'hold', TSUNAGI_MOVE: 'all', ...env },
  })
  for (const port of [pm2.port, http]) await pm2.until(`a listener on ${port}`, () => canConnect(port))
  return { pm2, ports: { raw: pm2.port, http } }
}

async function canConnect(port: number): Promise<true | undefined> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return undefined
  } finally {
    socket.destroy()
  }
}
