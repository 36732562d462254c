import { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Channel } from '../../../src/channel/channel.js'
import { type Message, PROTOCOL } from '../../../src/channel/messages.js'
import type { Peer } from '../../../src/channel/peer.js'
import { Holds } from '../../../src/holds.js'
import type { Installation } from '../../../src/installation.js'
import { Conversation } from '../../../src/predecessor/conversation.js'
import { memoryPair } from '../channel/in-memory-transport.js'

const ADDRESS = 'tcp 127.0.0.1:80'
const ACK: Message = { type: 'ack', refused: [] }
const IN_THE_MIDDLE = { reason: 'a request is being served', passes: true }

/** A predecessor with connections that were in the middle of something when the others moved, and what its successor gets to hear. */
async function retiredWith(count: number) {
  const passed = new Map<Socket, () => void>()
  const obstacles = new Map<Socket, typeof IN_THE_MIDDLE>()
  const drained: Socket[] = []
  const protocol = {
    name: 'fake',
    kind: undefined,
    obstacleOf: (socket: Socket) => obstacles.get(socket),
    watch(socket: Socket, onPassed: () => void) {
      passed.set(socket, onPassed)
      return () => {}
    },
    drain: (socket: Socket) => void drained.push(socket),
  }
  const server = new EventEmitter()
  const attached = { server, key: ADDRESS, options: { policy: () => 'move' } }
  const sockets = Array.from(
    { length: count },
    () => Object.assign(new EventEmitter(), { destroyed: false, _server: server }) as never as Socket,
  )
  for (const socket of sockets) obstacles.set(socket, IN_THE_MIDDLE)
  const said: string[] = []
  const installation = {
    env: {
      now: () => performance.now(),
      environment: {},
      fault() {},
      log: (line: string) => said.push(line),
      native: { identities: () => new Float64Array(), stopReading() {}, closeFds() {} },
    },
    desk: {
      expects: () => true,
      canaryFor: () => undefined,
      busyWith: undefined,
      serve() {},
      close() {},
      succeeded() {},
      reserve: { lend: (_: number, act: () => void) => act() },
    },
    datagrams: { fdAt: () => -1, socketsAt: () => new Map(), unref() {} },
    lifecycle: { isOwner: true, retire() {} },
    place: ADDRESS, // found like a cluster worker: there is no descriptor to send
    servers: new Set([attached]),
    finder: { find: () => new Map([[attached, sockets]]) },
    carried: { hasConnectionState: false, hasServerState: () => false, asksFor: () => false, ofServer: () => [] },
    flow: { finish() {} },
    holds: new Holds(),
    timers: { mute() {}, inside: false },
    protocols: { of: () => protocol, areTogether: () => false, rest: (onRest: () => void) => void setImmediate(onRest) },
    serverAt: () => undefined,
    attachedTo: () => attached,
    groupByServer: () => new Map(), // when its turn comes it has ended: nothing has to be moved here
    leave() {},
    emitFailure() {},
    generation: 1,
  } as never as Installation
  const [own, other] = memoryPair()
  const successor = new Channel(other)
  const heard: Message[] = []
  successor.listen({ onMessage: ({ message }) => void heard.push(message), onClose() {} })
  // Its parent is this process's as well, as a worker's of the same primary is.
  const peer = { channel: new Channel(own), credentials: { uid: process.geteuid?.() ?? 0, pid: process.pid }, pidfd: 1, closePidfd() {} }
  Object.assign(installation.env.native, { watch: () => ({ unref() {}, close() {} }) })
  new Conversation(installation, peer as never as Peer)
  onTestFinished(() => peer.channel.close())

  /** What the successor says, and when this process has come round to it. */
  const say = (...messages: Message[]) => {
    for (const message of messages) successor.send(message)
    own.turn()
    other.turn()
  }
  const types = () => {
    other.turn()
    return heard.splice(0).map(({ type }) => type)
  }
  say({
    type: 'hello',
    protocolMin: PROTOCOL.min,
    protocolMax: PROTOCOL.max,
    pid: 1,
    version: '',
    node: '',
    address: ADDRESS,
    token: 'ours',
  })
  say({ type: 'ready', claimed: [ADDRESS], states: [], mode: 'atomic', ahead: false })
  await turn()
  expect(types()).toEqual(['welcome', 'prepare'])
  say({ type: 'go' }, ACK)
  await turn()
  expect(types()).toEqual(['transfer', 'commit'])
  say({ type: 'resumed' })
  const pass = (socket: Socket) => {
    obstacles.delete(socket)
    passed.get(socket)?.()
  }
  return { sockets: sockets as [Socket, Socket], say, types, pass, drained, said }
}

const turn = () => new Promise((resolve) => setImmediate(resolve))

describe('a predecessor whose successor serves', () => {
  it('offers one transaction at a time: what comes to its boundary between go and the block waits for the next', async () => {
    const { sockets, say, types, pass } = await retiredWith(2)
    pass(sockets[0])
    expect(types()).toEqual(['prepare'])
    say({ type: 'go' }, ACK)
    pass(sockets[1]) // the block begins with the next macrotask
    expect(types()).toEqual([])
    await turn()
    expect(types()).toEqual(['transfer', 'commit'])
    say({ type: 'resumed' })
    await new Promise((resolve) => setTimeout(resolve))
    expect(types()).toEqual(['prepare'])
  })

  it('keeps and drains what its successor refuses instead of go', async () => {
    const { sockets, say, types, pass, drained, said } = await retiredWith(2)
    pass(sockets[0])
    expect(types()).toEqual(['prepare'])
    say({ type: 'nack', code: 'ERR_TSUNAGI_FD_LIMIT', reason: 'no room' })
    expect(drained).toEqual(sockets)
    expect(said).toContainEqual(expect.stringMatching('2 connections stay and drain: the successor refused them: no room'))
  })

  it('answers a go for what it has given up meanwhile', async () => {
    const { sockets, say, types, pass } = await retiredWith(1)
    pass(sockets[0])
    say({ type: 'nack', code: 'ERR_TSUNAGI_REFUSED', reason: 'it crossed an abort' }, { type: 'go' })
    expect(types()).toEqual(['prepare', 'abort'])
  })
})
