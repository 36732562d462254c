import { readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { OwnNetwork } from '../helpers/own-network.js'
import { describePrivileged } from '../helpers/privileged.js'
import type { Line } from '../helpers/process.js'

/** Two clients of a server that has ended, and the snapshot that it has left. */
async function ended(hold = 60, kind = { kind: 'idle', toServer: 1_000 }) {
  const network = await OwnNetwork.make()
  const line = await network.line('cold-server.mjs', { env: { TSUNAGI_HOLD: String(hold) } })
  const server = line.launch()
  await server.until('serving')
  const groups = [{ ...kind, host: '::1' }, kind]
  const clients = network.launch('cold-clients.mjs', line, { groups })
  await clients.until('settled')
  server.kill('SIGTERM')
  await server.exited
  return { network, line, clients, path: snapshotOf(line) }
}

function snapshotOf(line: Line): string {
  const [name = ''] = readdirSync(line.directory).filter((name) => name.endsWith('.snapshot'))
  return join(line.directory, name)
}

/** The server serves, nothing of the snapshot is in it, nothing of it is left, and the clients know. */
async function startsWithoutIt(given: Awaited<ReturnType<typeof ended>>, code: string): Promise<void> {
  const { network, line, clients } = given
  const server = line.launch()
  await server.until('serving')
  await server.untilSaid(code)
  clients.tell('go')
  clients.tell('finish')
  const lost = { flaw: expect.stringContaining('saw ECONNRESET') }
  expect(await clients.until('finished')).toMatchObject({ wrong: 2, flaws: [lost, lost] })
  expect(server.all('resumed')).toEqual([])
  expect(await network.held()).toEqual({ ports: [], connections: 0, leftMs: 0 })
  expect(readdirSync(line.directory).filter((name) => !name.endsWith('.sock'))).toEqual([])
  const others = network.launch('cold-clients.mjs', line, { groups: [{ kind: 'echo' }] })
  await others.until('connected')
  others.tell('stop')
  others.tell('finish')
  expect(await others.until('finished')).toMatchObject({ flaws: [] })
}

describePrivileged('net-namespace', 'a snapshot is not restored that', () => {
  test('is cut off', async () => {
    const given = await ended()
    truncateSync(given.path, statSync(given.path).size - 1)
    await startsWithoutIt(given, 'ERR_TSUNAGI_SNAPSHOT')
  })

  test('is damaged in its head', async () => {
    const given = await ended()
    const bytes = readFileSync(given.path)
    bytes[100] = (bytes[100] as number) ^ 1
    writeFileSync(given.path, bytes)
    await startsWithoutIt(given, 'ERR_TSUNAGI_SNAPSHOT')
  })

  test('is damaged in its last byte but forty', async () => {
    const given = await ended()
    const bytes = readFileSync(given.path)
    bytes[bytes.length - 40] = (bytes[bytes.length - 40] as number) ^ 1
    writeFileSync(given.path, bytes)
    await startsWithoutIt(given, 'ERR_TSUNAGI_SNAPSHOT')
  })

  test('is of a format of the future', async () => {
    const given = await ended()
    const bytes = readFileSync(given.path)
    bytes.writeUInt32LE(2, 8)
    writeFileSync(given.path, bytes)
    await startsWithoutIt(given, 'ERR_TSUNAGI_SNAPSHOT_VERSION')
  })

  // They do not say anything that could be answered by a reset.
  test('is older than its packets were held', async () => {
    const given = await ended(1, { kind: 'unread', toServer: 100_000 })
    await delay(1_100)
    await startsWithoutIt(given, 'ERR_TSUNAGI_SNAPSHOT_AGE')
  })
})
