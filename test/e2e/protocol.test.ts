import { createServer } from 'node:net'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Received } from '../../src/channel/codec.js'
import { ControlSocket } from '../../src/channel/control-socket.js'
import { type Message, PROTOCOL } from '../../src/channel/messages.js'
import { connectPeer, type Peer, peerOf } from '../../src/channel/peer.js'
import { controlSocketPath } from '../../src/channel/rendezvous.js'
import { loadBinding } from '../../src/native/binding.js'
import { Client } from '../helpers/client.js'
import { PackageCopy } from '../helpers/package-copy.js'
import { Line } from '../helpers/process.js'

const OWN = `${PROTOCOL.min} to ${PROTOCOL.max}`
const HOST = '127.0.0.1'
const TIMEOUT = 10_000

const { native } = loadBinding()
if (!native) throw new Error('the addon is missing')

const hello = (address: string, protocolMin: number, protocolMax: number): Message => ({
  type: 'hello',
  protocolMin,
  protocolMax,
  pid: process.pid,
  version: '9.9.9',
  node: process.version,
  address,
  token: '',
})

describe('a predecessor', () => {
  it.each([
    ['the same range', PROTOCOL.min, PROTOCOL.max],
    ['a range that goes further', PROTOCOL.min, PROTOCOL.max + 5],
    ['a range that begins earlier', 0, PROTOCOL.min],
  ])('agrees with a successor of %s on the highest version that both speak', async (_, min, max) => {
    const { peer, address } = await meetPredecessor()
    peer.channel.send(hello(address, min, max))
    const { message, fds } = answerOf(peer)
    native.closeFds(Int32Array.from(fds))
    expect(message).toMatchObject({ type: 'welcome', protocol: Math.min(max, PROTOCOL.max) })
    expect(fds).toHaveLength(1)
  })

  it.each([
    ['newer', PROTOCOL.max + 1, PROTOCOL.max + 4],
    ['older', 0, PROTOCOL.min - 1],
  ])('refuses a %s successor naming both ranges, gives it nothing, and serves on', async (_, min, max) => {
    const { peer, address, line } = await meetPredecessor()
    const client = await Client.connect(line.port, { host: HOST })
    peer.channel.send(hello(address, min, max))
    const { message, fds } = answerOf(peer)
    expect(fds).toEqual([])
    expect(message).toMatchObject({ type: 'refused', code: 'ERR_TSUNAGI_PROTOCOL' })
    expect((message as { reason: string }).reason).toContain(`${min} to ${max} (tsunagi 9.9.9)`)
    expect((message as { reason: string }).reason).toContain(`speaks ${OWN}`)
    client.send('hello')
    await client.expect('hello')
  })
})

describe('a successor', () => {
  it('goes on with a predecessor that chooses a version it speaks', async () => {
    const { peer } = await meetSuccessor(PROTOCOL.max)
    const ready = answerOf(peer)
    expect(ready.message).toMatchObject({ type: 'ready' })
    peer.channel.close()
  })

  it('does not go on with a predecessor that chooses one it does not speak', async () => {
    const { line } = await meetSuccessor(PROTOCOL.max + 1)
    const error = await line.current.until('error')
    expect(error).toMatchObject({ code: 'ERR_TSUNAGI_PROTOCOL', phase: 'negotiate', serving: true })
    expect(error['message']).toContain(`protocol ${PROTOCOL.max + 1}`)
    expect(error['message']).toContain(`speaks ${OWN}`)
    expect((await line.current.exited).code).toBe(1)
  })
})

/** Builds of this very code that claim other ranges. */
describe('two versions of this package', () => {
  const range = ([min, max]: readonly number[]) => {
    const copy = new PackageCopy()
    copy.edit(/PROTOCOL ?= ?\{ ?min: ?\d+, ?max: ?\d+ ?\}/, `PROTOCOL={min:${min},max:${max}}`)
    return copy.fixture('echo.mjs')
  }

  it.each([
    ['an older to a newer', [1, 1], [1, 2]],
    ['a newer to an older', [1, 2], [1, 1]],
  ] as const)('hand over from %s that has a version in common', async (_, from, to) => {
    const line = await Line.start(range(from))
    const client = await Client.connect(line.port)
    client.send('one')
    await client.expect('one')
    const successor = line.launch({}, range(to))
    await successor.until('serving')
    client.send('two')
    await client.expect('two')
    expect(client.seen).toEqual([])
  })

  it.each([
    ['an older to a newer', [1, 1], [2, 3]],
    ['a newer to an older', [2, 3], [1, 1]],
  ] as const)('do not hand over from %s that has none, and the first one serves on', async (_, from, to) => {
    const line = await Line.start(range(from))
    const client = await Client.connect(line.port)
    const successor = line.launch({}, range(to))
    const error = await successor.until('error')
    expect(error).toMatchObject({ code: 'ERR_TSUNAGI_PROTOCOL', serving: true })
    expect(error['message']).toContain(`protocol ${to[0]} to ${to[1]}`)
    expect(error['message']).toContain(`speaks ${from[0]} to ${from[1]}`)
    expect((await successor.exited).code).toBe(1)
    client.send('hello')
    await client.expect('hello')
    expect(client.seen).toEqual([])
  })
})

/** A predecessor that is no relative of this process, and this process at its control socket. */
async function meetPredecessor(): Promise<{ line: Line; peer: Peer; address: string }> {
  const line = await Line.start('echo.mjs', { host: HOST, command: ['setsid', '--fork', process.execPath] })
  const address = `tcp4 ${HOST}:${line.port}`
  const peer = connectPeer(native as NonNullable<typeof native>, controlSocketPath(line.directory, address), TIMEOUT)
  onTestFinished(() => {
    peer.channel.close()
    peer.closePidfd()
    process.kill(peer.credentials.pid, 'SIGKILL')
  })
  return { line, peer, address }
}

/** A successor that finds its address taken, and this process in the place of its predecessor, which says `protocol`. */
async function meetSuccessor(protocol: number): Promise<{ line: Line; peer: Peer }> {
  const line = await Line.empty('echo.mjs', { host: HOST })
  const address = `tcp4 ${HOST}:${line.port}`
  const holder = createServer().listen(line.port, HOST)
  onTestFinished(() => void holder.close())
  const own = native as NonNullable<typeof native>
  const met = new Promise<Peer>((resolve, reject) => {
    const socket = new ControlSocket(own, controlSocketPath(line.directory, address), peerOf, resolve, reject)
    onTestFinished(() => socket.close())
  })
  line.launch({ env: { TSUNAGI_TOKEN: 'its parent is its predecessor' } })
  const peer = await met
  onTestFinished(() => {
    peer.channel.close()
    peer.closePidfd()
  })
  expect(answerOf(peer).message).toMatchObject({ type: 'hello', protocolMin: PROTOCOL.min, protocolMax: PROTOCOL.max })
  const [given, kept] = own.socketPair() // any descriptor does for a listener here
  peer.channel.send(
    { type: 'welcome', protocol, pid: process.pid, version: '9.9.9', node: process.version, generation: 1 },
    { fds: [given] },
  )
  own.closeFds(Int32Array.of(given, kept))
  return { line, peer }
}

function answerOf(peer: Peer): Received {
  const answer = peer.channel.receive(TIMEOUT)
  if (answer === undefined) throw new Error('the other process said nothing')
  return answer
}
