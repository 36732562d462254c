import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { describe, expect, it, vi } from 'vitest'
import WebSocket from 'ws'
import { Client, talk, who } from '../helpers/client.js'
import { startDeployed as start } from '../helpers/deployed.js'
import { Fleet } from '../helpers/fleet.js'
import { PATIENCE, Pm2 } from '../helpers/pm2.js'
import { fixture, freePort } from '../helpers/process.js'

describe('pm2 reload of two cluster workers', () => {
  it('keeps 200 WebSocket, 200 keep-alive and 200 raw clients, ten times; PM2 counts right and starts nothing else', async () => {
    const http = await freePort()
    const env = { TSUNAGI_MOVE: 'all', HTTP_PORT: String(http) }
    const pm2 = await Pm2.start({ script: fixture('plain/fleet.mjs'), instances: 2, exec_mode: 'cluster', listen_timeout: PATIENCE, env })
    await pm2.until('listening workers', () => (/http listening/.test(pm2.printed) ? true : undefined))
    const fleet = await Fleet.connect({ raw: pm2.port, http, clients: { websocket: 200, 'keep-alive': 200, raw: 200 } })
    let pids = new Set<number>()
    for (let reload = 1; reload <= 10; reload++) {
      await pm2.run('reload', 'app')
      await fleet.settle()
      expect(fleet.broken).toEqual([])
      const list = await pm2.list()
      expect(list.map(({ pm2_env }) => [pm2_env.status, pm2_env.restart_time])).toEqual([
        ['online', reload],
        ['online', reload],
      ])
      expect(list.filter(({ pid }) => pids.has(pid))).toEqual([])
      pids = new Set(list.map(({ pid }) => pid))
    }
    expect(pm2.said.match(/took \d+ connections over/g)).toHaveLength(20)
  }, 240_000)
})

describe('pm2 reload', () => {
  it('of an ES module waits for all of it, and carries on', async () => {
    const { pm2 } = await start({ script: fixture('plain/deployed.mjs') })
    const clients = await Client.connectMany(20, pm2.port)
    const talking = talk(clients)
    await pm2.run('reload', 'app')
    await talking.stop()
    expect(clients.flatMap(({ seen }) => seen)).toEqual([])
    const taken = pm2.told.flatMap(({ event, role }, at) => (event === 'report' && role === 'successor' ? [at] : []))
    const evaluated = pm2.told.flatMap(({ event }, at) => (event === 'evaluated' ? [at] : []))
    expect(taken).toHaveLength(2)
    for (const [i, at] of taken.entries()) expect(at).toBeGreaterThan(evaluated[2 + i] as number)
  })

  it('with wait_ready takes over when the application says that it is ready, and only then lets PM2 know', async () => {
    const { pm2, deploy } = await start({ wait_ready: true }, { name: 'one', ready: 0 })
    const clients = await Client.connectMany(20, pm2.port)
    const talking = talk(clients)
    deploy({ name: 'two', ready: 500 })
    await pm2.run('reload', 'app')
    await talking.stop()
    expect(clients.flatMap(({ seen }) => seen)).toEqual([])
    const order = pm2.told.filter(({ event, role }) => event === 'ready' || (event === 'report' && role === 'successor'))
    expect(order.slice(2).map(({ event }) => event)).toEqual(['ready', 'report', 'ready', 'report'])
  })

  it('with wait_ready of a version that never says so takes over before PM2 stops the old one', async () => {
    const { pm2, deploy } = await start({ wait_ready: true, listen_timeout: 8_000 }, { name: 'one', ready: 0 })
    const clients = await Client.connectMany(20, pm2.port)
    const talking = talk(clients)
    deploy({ name: 'two' })
    await pm2.run('reload', 'app')
    await talking.stop()
    expect(clients.flatMap(({ seen }) => seen)).toEqual([])
    expect((await pm2.list()).map(({ pm2_env }) => pm2_env.restart_time)).toEqual([1, 1])
  })

  it('with shutdown_with_message keeps every connection', async () => {
    const { pm2 } = await start({ shutdown_with_message: true })
    const clients = await Client.connectMany(20, pm2.port)
    const talking = talk(clients)
    await pm2.run('reload', 'app')
    await pm2.run('reload', 'app')
    await talking.stop()
    expect(clients.flatMap(({ seen }) => seen)).toEqual([])
  })

  it('of a version that throws at its start costs nothing when the one that PM2 starts next does not', async () => {
    const { pm2, deploy } = await start({ listen_timeout: 8_000 })
    const clients = await Client.connectMany(20, pm2.port)
    const talking = talk(clients)
    deploy({ name: 'two', boot: 'throws once' })
    await pm2.run('reload', 'app')
    await talking.stop()
    expect(clients.flatMap(({ seen }) => seen)).toEqual([])
    expect(pm2.told.filter(({ event }) => event === 'boot')).toHaveLength(5)
    expect((await pm2.list()).map(({ pm2_env }) => pm2_env.status)).toEqual(['online', 'online'])
  })

  it.each(['throws', 'hangs'])(
    'of a version that %s costs nothing as long as PM2 lets the old one be, which then ends by its own rules',
    async (boot) => {
      const { pm2, deploy } = await start({ instances: 1, listen_timeout: 5_000, restart_delay: 500 }, undefined, { goodbye: 'SIGINT' })
      const clients = await Client.connectMany(20, pm2.port)
      const pid = await who(clients[0] as Client)
      deploy({ name: 'two', boot })
      const reloaded = pm2.run('reload', 'app')
      await pm2.until('the new version', () =>
        pm2.told.some(({ event, release }) => event === 'boot' && release === 'two') ? true : undefined,
      )
      for (let n = 0; n < 10; n++) expect(new Set(await Promise.all(clients.map(who)))).toEqual(new Set([pid]))
      expect(clients.flatMap(({ seen }) => seen)).toEqual([])
      for (const client of clients) expect(await client.line()).toBe('goodbye')
      for (const client of clients) client.end()
      await reloaded
    },
  )

  it('closes WebSockets that nobody asked to move with code 1012, and moves keep-alive connections', async () => {
    const http = await freePort()
    const env = { HTTP_PORT: String(http) }
    const pm2 = await Pm2.start({ script: fixture('plain/fleet.mjs'), instances: 2, exec_mode: 'cluster', listen_timeout: PATIENCE, env })
    await pm2.until('listening workers', () => (/http listening/.test(pm2.printed) ? true : undefined))
    const fleet = await Fleet.connect({ http, clients: { 'keep-alive': 20 } })
    const sockets = await Promise.all(Array.from({ length: 10 }, () => open(`ws://127.0.0.1:${http}`)))
    const closed = sockets.map((socket) => once(socket as WebSocket, 'close').then(([code]) => code))
    await pm2.run('reload', 'app')
    expect(await Promise.all(closed)).toEqual(sockets.map(() => 1012))
    await fleet.settle()
    expect(fleet.broken).toEqual([])
  })

  it('leaves a connection that nobody asked to move to the old worker, which ends it politely before PM2 would kill it', async () => {
    const { pm2 } = await start({ env: {} })
    const client = await Client.connect(pm2.port)
    const pid = await who(client)
    await pm2.run('reload', 'app')
    await client.expectEnd()
    client.end()
    expect(client.seen).toEqual(['end'])
    expect(pm2.told).toContainEqual(expect.objectContaining({ event: 'report', role: 'predecessor', predecessor: Number(pid), moved: 0 }))
    expect((await pm2.list()).map(({ pm2_env }) => pm2_env.restart_time)).toEqual([1, 1])
  })
})

describe('examples/pm2', () => {
  it('keeps a WebSocket when it is reloaded, and really stops', async () => {
    const pm2 = await Pm2.empty()
    await pm2.run('start', fileURLToPath(new URL('../../examples/pm2/ecosystem.config.cjs', import.meta.url)), '--only', 'cluster')
    const url = `ws://127.0.0.1:${pm2.port}`
    const socket = await pm2.until('a server', () => open(url))
    const ends = vi.fn()
    socket.on('close', ends)
    const before = await say(socket, 'hello')
    await pm2.run('reload', 'cluster')
    const after = await say(socket, 'hello')
    expect([before, after]).toEqual([
      expect.stringMatching(/^worker \d+ heard: hello$/),
      expect.stringMatching(/^worker \d+ heard: hello$/),
    ])
    expect(after).not.toBe(before)
    expect(ends).not.toHaveBeenCalled()
    await pm2.run('stop', 'cluster')
    await pm2.until('the end of the connection', () => (socket.readyState === WebSocket.CLOSED ? true : undefined))
    expect(await open(url)).toBeUndefined()
    expect((await pm2.list()).map(({ pm2_env }) => pm2_env.status)).toEqual(['stopped', 'stopped'])
  })
})

async function open(url: string): Promise<WebSocket | undefined> {
  const socket = new WebSocket(url)
  const isOpen = await once(socket, 'open').then(
    () => true,
    () => false, // nobody listens yet, or any more
  )
  return isOpen ? socket : undefined
}

async function say(socket: WebSocket, words: string): Promise<string> {
  socket.send(words)
  return String((await once(socket, 'message'))[0])
}
