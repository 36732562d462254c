import { describe, expect, it } from 'vitest'
import { Client, who } from '../helpers/client.js'
import { startDeployed } from '../helpers/deployed.js'
import { Fleet } from '../helpers/fleet.js'
import { PATIENCE, Pm2 } from '../helpers/pm2.js'
import { fixture, freePort } from '../helpers/process.js'

/** Workers of a cluster that PM2 ends before it starts the next ones: a keeper has their connections meanwhile, by slot. */
describe('pm2 restart of two cluster workers', () => {
  it('keeps 200 WebSocket, 200 keep-alive and 200 raw clients, ten times; PM2 counts right and starts nothing else', async () => {
    const { pm2, ports } = await start()
    const fleet = await Fleet.connect({ ...ports, clients: { websocket: 200, 'keep-alive': 200, raw: 200 } })
    let pids = new Set<number>()
    for (let restart = 1; restart <= 10; restart++) {
      await pm2.run('restart', 'app')
      await fleet.settle()
      expect(fleet.broken).toEqual([])
      const list = await pm2.list()
      expect(list.map(({ pm2_env }) => [pm2_env.status, pm2_env.restart_time])).toEqual([
        ['online', restart],
        ['online', restart],
      ])
      expect(list.filter(({ pid }) => pids.has(pid))).toEqual([])
      pids = new Set(list.map(({ pid }) => pid))
    }
    expect(pm2.said.match(/took \d+ connections over from the keeper/g)).toHaveLength(20)
  }, 240_000)

  it.each([
    ['with wait_ready', { wait_ready: true }],
    ['with shutdown_with_message', { shutdown_with_message: true }],
    ['of one worker', { instances: 1 }],
    ['of an application with its own end', { env: { STAYS: '1' } }],
  ])('%s keeps every connection', async (_, options) => {
    const { pm2, ports } = await start(options)
    const fleet = await Fleet.connect({ ...ports, clients: { raw: 20, 'keep-alive': 20, websocket: 20 } })
    for (let restart = 1; restart <= 2; restart++) {
      await pm2.run('restart', 'app')
      await fleet.settle()
    }
    expect(fleet.broken).toEqual([])
  })
})

/** PM2 stops the old workers long before these are ready. */
describe('pm2 reload', () => {
  it('of a version that boots for longer than PM2 waits costs nothing', async () => {
    const { pm2, deploy, clients } = await deployed()
    deploy({ name: 'two', boot: 'waits' })
    await pm2.run('reload', 'app')
    deploy({ name: 'two' })
    await servedByOthers(pm2, clients)
  })

  it('of a version that has found the old one, and is not ready when PM2 stops that, costs nothing', async () => {
    const { pm2, deploy, clients } = await deployed()
    deploy({ name: 'two' })
    pm2.describe({ ...pm2.described, env: { ...pm2.described.env, TSUNAGI_FAULT: 'successor-before-ready=stop' } })
    await pm2.run('reload', pm2.ecosystem)
    for (const { pid } of await pm2.list()) process.kill(pid, 'SIGCONT')
    await servedByOthers(pm2, clients)
  })

  it('of a version that throws at its start costs nothing if it is mended within the hold time', async () => {
    const { pm2, deploy, clients } = await deployed({ restart_delay: 500 })
    deploy({ name: 'two', boot: 'throws' })
    await pm2.run('reload', 'app')
    deploy({ name: 'three' })
    await servedByOthers(pm2, clients)
  })
})

/** Two workers that PM2 stops soon after it has begun a reload, and their clients. */
async function deployed(options: Record<string, unknown> = {}) {
  const { pm2, deploy } = await startDeployed({ ...options, listen_timeout: 300, kill_timeout: 5_000, env: HOLD })
  return { pm2, deploy, clients: await Client.connectMany(20, pm2.port) }
}

async function servedByOthers(pm2: Pm2, clients: readonly Client[]): Promise<void> {
  const pids = new Set(await Promise.all(clients.map(who)))
  expect(clients.flatMap(({ seen }) => seen)).toEqual([])
  expect(pm2.said).toMatch(/took \d+ connections over from the keeper/)
  expect(pids).toEqual(new Set((await pm2.list()).map(({ pid }) => String(pid))))
}

const HOLD = { TSUNAGI_ON_EXIT: 'hold', TSUNAGI_HOLD: '30', TSUNAGI_MOVE: 'all' }

async function start(options: { env?: Record<string, string>; [option: string]: unknown } = {}) {
  const http = await freePort()
  const { env, ...rest } = options
  const app = {
    script: fixture('plain/supervised.mjs'),
    instances: 2,
    exec_mode: 'cluster',
    listen_timeout: PATIENCE,
    kill_timeout: 5_000,
    ...rest,
  }
  const pm2 = await Pm2.start({
    ...app,
    env: { ...HOLD, HTTP_PORT: String(http), ...env },
  })
  await pm2.until('listening workers', () => (pm2.printed.match(/http listening/g)?.length === app.instances ? true : undefined))
  return { pm2, ports: { raw: pm2.port, http } }
}
