import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { OwnNetwork } from '../helpers/own-network.js'
import { describePrivileged } from '../helpers/privileged.js'

/** How long clients are silent that say something right after their server has ended, when it is back after three seconds. */
async function silence(wake: string): Promise<number> {
  const network = await OwnNetwork.make()
  const line = await network.line('cold-server.mjs', { env: { TSUNAGI_WAKE: wake } })
  const first = line.launch()
  await first.until('serving')
  const kinds = ['127.0.0.1', '::1'].flatMap((host) => Array.from({ length: 10 }, () => ({ kind: 'idle', toServer: 1_000, host })))
  const clients = network.launch('cold-clients.mjs', line, { groups: kinds })
  await clients.until('settled')
  first.kill('SIGTERM')
  await first.exited
  clients.tell('go')
  await delay(3_000)
  const next = line.launch()
  await next.until('resumed')
  const start = performance.now()
  clients.tell('finish')
  expect(await clients.until('finished')).toMatchObject({ flaws: [] })
  return performance.now() - start
}

describePrivileged('net-namespace', 'clients that have repeated themselves in vain', () => {
  test('are heard sooner when they are woken than when they wait for their own timers', async () => {
    // What a client has left of its timer depends on when the server comes back: the sum of several tries does so less.
    const tries = { on: 0, off: 0 }
    for (let round = 0; round < 2; round++) {
      tries.on += await silence('')
      tries.off += await silence('off')
    }
    expect(tries.on).toBeLessThan(tries.off / 2)
  })
})
