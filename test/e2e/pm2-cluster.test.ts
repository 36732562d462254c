import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { Client, talk, who } from '../helpers/client.js'
import { Pm2 } from '../helpers/pm2.js'
import { fixture, temporaryDirectory } from '../helpers/process.js'

describe('pm2 reload of two cluster workers', () => {
  it('keeps every connection, ten times; PM2 counts right and starts nothing else', async () => {
    const { pm2 } = await start()
    const clients = await Client.connectMany(200, pm2.port)
    let pids = new Set(await Promise.all(clients.map(who)))
    expect(pids.size).toBe(2)
    for (let reload = 1; reload <= 10; reload++) {
      const talking = talk(clients)
      await pm2.run('reload', 'app')
      await talking.stop()
      const now = new Set(await Promise.all(clients.map(who)))
      expect(now.size).toBe(2)
      expect([...now].filter((pid) => pids.has(pid))).toEqual([])
      pids = now
      const list = await pm2.list()
      expect(list.map(({ pm2_env }) => [pm2_env.status, pm2_env.restart_time])).toEqual([
        ['online', reload],
        ['online', reload],
      ])
      expect(new Set(list.map(({ pid }) => String(pid)))).toEqual(now)
    }
    expect(clients.flatMap(({ seen }) => seen)).toEqual([])
    expect(pm2.told.filter(({ event }) => event === 'boot')).toHaveLength(22)
    expect(pm2.told.filter(({ event }) => event === 'socket close')).toEqual([])
  })
})

/** An application of which versions can be deployed, on two workers. */
async function start(options: Record<string, unknown> = {}) {
  const release = join(temporaryDirectory(), 'release.json')
  const deploy = (version: { name: string; boot?: string; ready?: number }) => writeFileSync(release, JSON.stringify(version))
  deploy({ name: 'one' })
  const env = { TSUNAGI_MOVE: 'all', MODE: JSON.stringify({ release }) }
  const pm2 = await Pm2.start({ script: fixture('plain/deployed.cjs'), instances: 2, exec_mode: 'cluster', env, ...options })
  await pm2.until('two listening workers', () =>
    pm2.told.filter(({ event }) => event === 'server listening').length === 2 ? true : undefined,
  )
  return { pm2, deploy }
}
