import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { Agent, type IncomingMessage, request } from 'node:http'
import { text } from 'node:stream/consumers'
import { describe, expect, it, onTestFinished } from 'vitest'
import { pattern } from '../fixtures/pattern.mjs'
import { Client } from '../helpers/client.js'
import { ask, asking, head } from '../helpers/http.js'
import { missingNodes, NODES } from '../helpers/nodes.js'
import { Line, type ServerProcess, type Settings } from '../helpers/process.js'

const OPTED_IN = { env: { TSUNAGI_REPLAY: '1mb' } }

describe('a request that is half received', () => {
  it.each(NODES)('begins again in the successor, which answers it once, on Node $major', async ({ path }) => {
    expect(missingNodes()).toBe('')
    const { predecessor, successor, clients, takeOver, received } = await booting(3, { ...OPTED_IN, command: [path] })
    const [sized, chunked, used] = clients as [Client, Client, Client]
    await ask(used, '/', predecessor.pid)
    sized.send(opening('/sized', `Content-Length: ${BODY.length}`))
    sized.send(BODY.subarray(0, HALF))
    chunked.send(`${opening('/chunked', 'Transfer-Encoding: chunked')}${HALF.toString(16)}\r\n`)
    chunked.send(BODY.subarray(0, HALF - 5)) // in the middle of a chunk
    used.send(opening('/used', `Content-Length: ${BODY.length}`).slice(0, 20))
    await received('/sized', HALF)
    used.send(opening('/used', `Content-Length: ${BODY.length}`).slice(20))
    used.send(BODY.subarray(0, HALF))
    await received('/chunked', HALF - 5)
    await received('/used', HALF)
    await takeOver()
    sized.send(BODY.subarray(HALF))
    chunked.send(BODY.subarray(HALF - 5, HALF))
    chunked.send(`\r\n${(BODY.length - HALF).toString(16)}\r\n`)
    chunked.send(BODY.subarray(HALF))
    chunked.send('\r\n0\r\n\r\n')
    used.send(BODY.subarray(HALF))
    expect((await predecessor.exited).code).toBe(0)
    for (const [client, url] of [
      [sized, '/sized'],
      [chunked, '/chunked'],
      [used, '/used'],
    ] as const) {
      expect(await head(client)).toMatchObject({ path: url, pid: successor.pid })
      await client.expect(DIGEST)
      await ask(client, '/', successor.pid) // and nothing is before its answer
      expect(client.seen).toEqual([])
      expect(successor.all('request').filter((told) => told['url'] === url)).toHaveLength(1)
    }
    expect(endings(predecessor)).toEqual([])
    expect(predecessor.all('handover')).toMatchObject([{ stayed: [] }])
  })

  it('moves with what its handler has not read yet, which the handler of the successor reads in its own time', async () => {
    const { predecessor, successor, clients, takeOver, arrived } = await booting(1, OPTED_IN)
    const [client] = clients as [Client]
    client.send(opening('/patient', `Content-Length: ${BODY.length}`))
    client.send(BODY.subarray(0, HALF))
    await arrived()
    await takeOver()
    await successor.until('request', ({ url }) => url === '/patient')
    client.send(BODY.subarray(HALF))
    successor.tell('read')
    expect(await head(client)).toMatchObject({ path: '/patient', pid: successor.pid })
    await client.expect(DIGEST)
    await ask(client, '/', successor.pid)
    expect((await predecessor.exited).code).toBe(0)
    expect([...endings(predecessor), ...client.seen]).toEqual([])
  })

  it('is asked for by the option of one server too', async () => {
    const { successor, clients, takeOver, received } = await booting(1, { mode: { replay: 1_000_000 } })
    const [client] = clients as [Client]
    await halfSent(client, '/a', received)
    await takeOver()
    client.send(BODY.subarray(HALF))
    expect(await head(client)).toMatchObject({ pid: successor.pid })
    await client.expect(DIGEST)
  })

  it.each([
    ['nobody has asked', '/a', {}],
    ['the setting goes before the option', '/a', { mode: { replay: 1_000_000 }, env: { TSUNAGI_REPLAY: '0' } }],
    ['it is larger than may be kept', '/a', { env: { TSUNAGI_REPLAY: '64kb' } }],
    ['its answer has begun', '/begun', OPTED_IN],
  ] as const)('is answered by the predecessor where %s', async (_, url, settings) => {
    const { predecessor, successor, clients, takeOver, received } = await booting(1, settings)
    const [client] = clients as [Client]
    await halfSent(client, url, received)
    await takeOver()
    client.send(BODY.subarray(HALF))
    expect(await head(client)).toMatchObject({ path: url, pid: predecessor.pid })
    if (url === '/begun') await client.expect(`${DIGEST.length.toString(16)}\r\n${DIGEST}\r\n0\r\n\r\n`)
    else await client.expect(DIGEST)
    await ask(client, '/', successor.pid) // behind it the connection moves
    expect((await predecessor.exited).code).toBe(0)
    expect(client.seen).toEqual([])
  })

  it('is answered by the predecessor where an early hint was sent, where its head had come before the successor, and behind another request', async () => {
    const line = await Line.start('uploads.mjs', OPTED_IN)
    const before = await Client.connect(line.port)
    const { predecessor, clients, takeOver, received } = await booting(2, OPTED_IN, line, async () => {
      before.send(opening('/before', `Content-Length: ${BODY.length}`))
      before.send(BODY.subarray(0, HALF))
      await predecessorReceived(line.current, '/before', HALF)
    })
    const [hinted, piped] = clients as [Client, Client]
    hinted.send(opening('/hints', `Content-Length: ${BODY.length}`))
    hinted.send(BODY.subarray(0, HALF))
    piped.send(`${opening('/first', 'Content-Length: 2')}ab${opening('/piped', `Content-Length: ${BODY.length}`)}abc`)
    expect(await head(piped)).toMatchObject({ path: '/first' })
    await piped.expect(`2 ${sha256(Buffer.from('ab'))}`)
    await received('/hints', HALF)
    await received('/piped', 3)
    await takeOver()
    before.send(BODY.subarray(HALF))
    hinted.send(BODY.subarray(HALF))
    piped.send(BODY.subarray(3))
    expect((await head(hinted)).lines[0]).toBe('HTTP/1.1 103 Early Hints')
    for (const client of [before, hinted]) {
      expect(await head(client)).toMatchObject({ pid: predecessor.pid })
      await client.expect(DIGEST)
      expect(client.seen).toEqual([])
    }
    expect(await head(piped)).toMatchObject({ path: '/piped', pid: predecessor.pid })
    await piped.expect(`${BODY.length} ${sha256(Buffer.concat([Buffer.from('abc'), BODY.subarray(3)]))}`)
    expect((await predecessor.exited).code).toBe(0)
  })

  it('is told to continue once', async () => {
    const { predecessor, successor, clients, takeOver, received, port } = await booting(1, OPTED_IN)
    const [client] = clients as [Client]
    client.send(opening('/expecting', `Content-Length: ${BODY.length}`, 'Expect: 100-continue'))
    await client.expect('HTTP/1.1 100 Continue\r\n\r\n')
    client.send(BODY.subarray(0, HALF))
    const agent = new Agent({ keepAlive: true })
    onTestFinished(() => agent.destroy())
    const headers = { 'Content-Length': BODY.length, Expect: '100-continue' }
    const upload = request({ port, host: '127.0.0.1', path: '/node', method: 'PUT', agent, headers })
    let continued = 0
    upload.on('continue', () => continued++)
    upload.flushHeaders()
    await once(upload, 'continue')
    upload.write(BODY.subarray(0, HALF))
    await received('/expecting', HALF)
    await received('/node', HALF)
    await takeOver()
    client.send(BODY.subarray(HALF))
    upload.end(BODY.subarray(HALF))
    const { lines, pid } = await head(client)
    expect([lines[0], pid]).toEqual(['HTTP/1.1 200 OK', successor.pid])
    await client.expect(DIGEST)
    const [response] = (await once(upload, 'response')) as [IncomingMessage]
    expect([response.headers['x-pid'], await text(response), continued]).toEqual([String(successor.pid), DIGEST, 1])
    expect(successor.all('request')).toContainEqual({ event: 'request', url: '/expecting', expect: '100-continue' })
    await ask(client, '/', successor.pid)
    expect((await predecessor.exited).code).toBe(0)
  })

  it('gets nothing of what the handler of the predecessor answers later, and counts once among the requests of its connection', async () => {
    const settings = { ...OPTED_IN, mode: { maxRequestsPerSocket: 3 } }
    const { predecessor, successor, clients, takeOver, received } = await booting(2, settings)
    const [client, held] = clients as [Client, Client]
    await halfSent(client, '/hasty', received)
    // It keeps the predecessor there until it has been heard.
    held.send(opening('/begun', 'Content-Length: 4'))
    held.send('ab')
    await received('/begun', 2)
    await takeOver()
    predecessor.tell('answer')
    await predecessor.until('answered')
    client.send(BODY.subarray(HALF))
    expect(await head(client)).toMatchObject({ path: '/hasty', pid: successor.pid })
    await client.expect(DIGEST)
    for (const last of ['keep-alive', 'close']) {
      client.send(asking('/'))
      expect((await head(client)).lines).toContain(`Connection: ${last}`)
      await client.expect(String(successor.pid))
    }
    held.send('cd')
    expect(await head(held)).toMatchObject({ pid: predecessor.pid })
    expect((await predecessor.exited).code).toBe(0)
    expect(predecessor.all('request aborted')).toEqual([])
  })

  it('is answered by the predecessor where the successor dies before it has started anything', async () => {
    const { predecessor, successor, clients, received } = await booting(2, OPTED_IN, undefined, undefined, {
      TSUNAGI_FAULT: 'successor-after-commit=stop',
    })
    const [client, hasty] = clients as [Client, Client]
    await halfSent(client, '/a', received)
    await halfSent(hasty, '/hasty', received)
    successor.tell('ready')
    await successor.untilStopped()
    predecessor.tell('answer') // while it is not this process's to answer
    await predecessor.until('answered')
    successor.kill()
    await predecessor.until('handover-failed')
    client.send(BODY.subarray(HALF))
    expect(await head(client)).toMatchObject({ path: '/a', pid: predecessor.pid })
    await client.expect(DIGEST)
    expect(await head(hasty)).toMatchObject({ path: '/hasty', pid: predecessor.pid })
    await hasty.expect('hasty')
    hasty.send(BODY.subarray(HALF))
    for (const one of [client, hasty]) {
      await ask(one, '/', predecessor.pid)
      expect(one.seen).toEqual([])
    }
    expect(predecessor.all('request aborted')).toEqual([])
  })
})

const BODY = Buffer.from(pattern(600_000))
const HALF = 300_000
const DIGEST = `${BODY.length} ${sha256(BODY)}`

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function opening(path: string, ...headers: string[]): string {
  return [`POST ${path} HTTP/1.1`, 'Host: localhost', ...headers, '', ''].join('\r\n')
}

async function halfSent(client: Client, url: string, received: (url: string, bytes: number) => Promise<unknown>): Promise<void> {
  client.send(opening(url, `Content-Length: ${BODY.length}`))
  client.send(BODY.subarray(0, HALF))
  await received(url, HALF)
}

function predecessorReceived(process: ServerProcess, url: string, bytes: number): Promise<unknown> {
  return process.until('body', (told) => told['url'] === url && told['bytes'] === bytes)
}

/** What a handler could take for the end of a request that is not complete. */
function endings(process: ServerProcess) {
  return process.told.filter(({ event, url }) => /^request (aborted|error|close|end)$/.test(event) && url !== '/')
}

/** A server with clients, and a successor that is only waiting for the word to take over. */
async function booting(count: number, settings: Settings, given?: Line, before?: () => Promise<void>, env: NodeJS.ProcessEnv = {}) {
  const line = given ?? (await Line.start('uploads.mjs', settings))
  const predecessor = line.current
  await before?.()
  const clients = await Client.connectMany(count, line.port)
  const successor = line.launch({ mode: { ...settings.mode, waits: true }, env: { ...settings.env, ...env } })
  await successor.until('server listening')
  const witness = await Client.connect(line.port)
  onTestFinished(() => void witness.socket.destroy())
  /** What was sent before has been read. */
  const arrived = async () => {
    for (let i = 0; i < 3; i++) await ask(witness, '/', predecessor.pid)
  }
  await arrived() // it is armed
  return {
    port: line.port,
    predecessor,
    successor,
    clients,
    arrived,
    received: (url: string, bytes: number) => predecessorReceived(predecessor, url, bytes),
    takeOver: async () => {
      successor.tell('ready')
      await successor.until('resumed')
    },
  }
}
