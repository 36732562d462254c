import { once } from 'node:events'
import { connect, createServer, type ServerHttp2Session } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { native } from './native-under-test.js'

const handleOf = (session: ServerHttp2Session): object => {
  const symbol = Object.getOwnPropertySymbols(session).find(({ description }) => description === 'kHandle')
  return (session as unknown as Record<symbol, object>)[symbol as symbol] as object
}

const figuresOf = ({ state }: ServerHttp2Session): Float64Array =>
  Float64Array.of(
    state.nextStreamID as number,
    state.lastProcStreamID as number,
    state.effectiveLocalWindowSize as number,
    state.remoteWindowSize as number,
  )

async function conversation() {
  const server = createServer((_request, response) => void response.end('x'))
  server.listen(0, '127.0.0.1')
  const client = connect(`http://127.0.0.1:${await once(server, 'listening').then(() => (server.address() as AddressInfo).port)}`)
  const [session] = (await once(server, 'session')) as [ServerHttp2Session]
  onTestFinished(() => {
    client.destroy()
    session.destroy()
    server.close()
  })
  await once(client.request().resume(), 'close')
  return { client, session }
}

test("a server's session says that it shuts down, and takes the streams that cross that", async () => {
  const { client, session } = await conversation()
  session.goaway(0, 2) // as announceShutdown does
  expect(native.shutdownNotice(handleOf(session), figuresOf(session))).toBe(true)
  const crossing = client.request()
  const goaway = once(client, 'goaway')
  const response = once(crossing.resume(), 'response')
  crossing.session?.ping(() => {}) // both sides write
  session.ping(() => {})
  expect(await goaway).toEqual([0, 2 ** 31 - 1, undefined])
  expect((await response)[0][':status']).toBe(200)
  expect(session.destroyed).toBe(false)
})

test('a session that does not say what was expected is not touched', async () => {
  const { client, session } = await conversation()
  const figures = figuresOf(session)
  for (const i of figures.keys()) {
    const others = figures.slice()
    others[i] = (others[i] as number) + 1
    expect(native.shutdownNotice(handleOf(session), others)).toBe(false)
  }
  for (const other of [{}, () => {}, [1, 2], handleOf(client as unknown as ServerHttp2Session), Buffer.alloc(8), session])
    expect(native.shutdownNotice(other, figures)).toBe(false)
  expect(native.shutdownNotice(handleOf(session), new Float64Array(1))).toBe(false)
})
