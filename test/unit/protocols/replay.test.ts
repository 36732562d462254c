import { once } from 'node:events'
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { describe, expect, it, onTestFinished } from 'vitest'
import { ask } from '../../../src/protocols/asked.js'
import { replay, swallowHead } from '../../../src/protocols/replay.js'
import { isRequestHead, requestOf, withHeader } from '../../../src/protocols/request-head.js'

const REQUEST = {
  method: 'GET',
  url: '/chat?a=%20b',
  version: '1.1',
  headers: ['Host', 'a', 'X-Name', 'J\xfcrgen', 'Upgrade', 'echo', 'Connection', 'Upgrade'],
}

/** A connection that no server has yet, and its client. */
async function pair(): Promise<{ socket: Socket; client: Socket; received: () => string }> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [socket] = (await once(server, 'connection')) as [Socket]
  let text = ''
  client.on('data', (bytes) => {
    text += bytes
  })
  onTestFinished(() => {
    client.destroy()
    socket.destroy()
    server.close()
  })
  return { socket, client, received: () => text }
}

function arrival(socket: Socket, server: ReturnType<typeof createHttpServer>) {
  return { socket, server, timeout: undefined, connect: () => void server.emit('connection', socket) }
}

describe('a request that is replayed', () => {
  it('reaches the upgrade handler at once; its head is swallowed, and what was read behind the request follows', async () => {
    const { socket, client, received } = await pair()
    const server = createHttpServer()
    const seen: unknown[] = []
    server.on('upgrade', (request, upgraded: Socket, head: Buffer) => {
      seen.push(request.url, request.headers['x-name'], ask(request), head.length)
      upgraded.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n')
      upgraded.write('\r\nand more')
      upgraded.on('data', (bytes) => upgraded.write(`echo ${bytes}`))
    })
    socket.unshift(Buffer.from('unread'))
    const heads: string[] = []
    swallowHead(socket, (head) => heads.push(head))
    const prepared: unknown[] = []
    replay(arrival(socket, server), REQUEST, (request, response) => prepared.push(request.url, response))
    expect(prepared).toEqual(['/chat?a=%20b', undefined])
    expect(seen).toEqual(['/chat?a=%20b', 'J\xfcrgen', true, 0])
    expect(heads).toEqual(['HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo'])
    while (!received().includes('echo unread')) await once(client, 'data')
    expect(received()).toBe('and moreecho unread')
    expect(Object.hasOwn(server, 'emit')).toBe(false)
  })

  it('may be answered later, and refused with an end', async () => {
    const { socket, client, received } = await pair()
    const server = createHttpServer()
    server.on('upgrade', (_request, upgraded: Socket) => setImmediate(() => upgraded.end('HTTP/1.1 401 Unauthorized\r\n\r\n')))
    const answer = new Promise<string>((resolve) => swallowHead(socket, resolve))
    replay(arrival(socket, server), REQUEST, () => {})
    expect(await answer).toBe('HTTP/1.1 401 Unauthorized')
    await once(client, 'end')
    expect(received()).toBe('')
  })

  it('comes with its response where the server does not upgrade', async () => {
    const { socket } = await pair()
    const server = createHttpServer((_request, response) => response.end())
    const seen: (ServerResponse | undefined)[] = []
    replay(arrival(socket, server), withHeader(withHeader(REQUEST, 'upgrade', undefined), 'connection', undefined), (_, response) =>
      seen.push(response),
    )
    expect(seen[0]?.writableEnded).toBe(true)
  })

  it('is kept from the application by what `received` throws', async () => {
    const { socket } = await pair()
    let calls = 0
    const server = createHttpServer(() => calls++)
    const plain = { ...REQUEST, headers: ['Host', 'a'] }
    expect(() =>
      replay(arrival(socket, server), plain, () => {
        throw new Error('no')
      }),
    ).toThrow('no')
    expect(calls).toBe(0)
  })
})

describe('a request as data', () => {
  it('has the whole url where a router has shortened it, and none where it has a body', () => {
    const request = {
      method: 'GET',
      url: '/b',
      originalUrl: '/a/b',
      httpVersion: '1.1',
      rawHeaders: ['A', 'b'],
      headers: {},
    } as unknown as IncomingMessage
    expect(requestOf(request)).toEqual({ method: 'GET', url: '/a/b', version: '1.1', headers: ['A', 'b'] })
    expect(requestOf(Object.assign(request, { headers: { 'content-length': '3' } }))).toBeUndefined()
  })

  it('gets one header more', () => {
    expect(withHeader({ ...REQUEST, headers: ['last-event-id', '1', 'A', 'b'] }, 'Last-Event-ID', '2').headers).toEqual([
      'A',
      'b',
      'Last-Event-ID',
      '2',
    ])
  })

  it.each([
    [null],
    [{}],
    [{ ...REQUEST, method: 'GET /' }],
    [{ ...REQUEST, url: '/ HTTP/1.1\r\nA: b' }],
    [{ ...REQUEST, version: '2.0' }],
    [{ ...REQUEST, headers: ['A'] }],
    [{ ...REQUEST, headers: ['A', 'b\r\nC: d'] }],
    [{ ...REQUEST, headers: ['A:', 'b'] }],
    [{ ...REQUEST, headers: 'A: b' }],
  ])('is not taken from %j', (value) => {
    expect(isRequestHead(REQUEST)).toBe(true)
    expect(isRequestHead(value)).toBe(false)
  })
})
