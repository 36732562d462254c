import { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import { describe, expect, it } from 'vitest'
import { Holds } from '../../../src/holds.js'
import type { Installation } from '../../../src/installation.js'
import { Stragglers } from '../../../src/predecessor/stragglers.js'

type Fake = Socket & { destroyed: boolean }

/** A protocol whose obstacles the test decides on. */
function fakeProtocol() {
  const obstacles = new Map<Socket, { reason: string; passes: boolean }>()
  const watched = new Map<Socket, () => void>()
  return {
    obstacles,
    watched,
    obstacleOf: (socket: Socket) => obstacles.get(socket),
    watch(socket: Socket, onPassed: () => void) {
      watched.set(socket, onPassed)
      return () => watched.delete(socket)
    },
  }
}

function setUp({ carries = false } = {}) {
  const protocol = fakeProtocol()
  const other = fakeProtocol()
  const ofOther = new Set<Socket>()
  const carriers = new Set<Socket>()
  const stuck: Socket[] = []
  const said: string[] = []
  const holds = new Holds()
  let passed = 0
  const installation = {
    holds,
    servers: new Set([{ server: {} }]),
    carried: { hasServerState: () => carries, asksFor: (socket: Socket) => carriers.has(socket) },
    env: { log: (line: string) => said.push(line) },
    attachedTo: () => undefined,
    protocols: { of: (socket: Socket) => (ofOther.has(socket) ? other : protocol) },
  } as unknown as Installation
  const stragglers = new Stragglers(
    installation,
    () => passed++,
    (socket) => stuck.push(socket),
  )
  const socket = (name: string) => Object.assign(new EventEmitter(), { name, destroyed: false, _server: null }) as unknown as Fake
  const sockets = [socket('a'), socket('b')] as [Fake, Fake]
  const inTheMiddle = { reason: 'in the middle', passes: true }
  for (const each of sockets) protocol.obstacles.set(each, inTheMiddle)
  return { stragglers, sockets, protocol, other, ofOther, carriers, stuck, said, holds, passed: () => passed, inTheMiddle }
}

describe('stragglers', () => {
  it('are ready one by one, each once, when what was in the way has passed', () => {
    const { stragglers, sockets, protocol } = setUp()
    expect(stragglers.watch(sockets)).toEqual([])
    expect(stragglers.ready()).toEqual(new Set())
    protocol.obstacles.delete(sockets[1])
    expect(stragglers.ready()).toEqual(new Set([sockets[1]]))
    expect(stragglers.ready()).toEqual(new Set())
    expect([...protocol.watched.keys()]).toEqual([sockets[0]])
  })

  it('are not ready while somebody holds them; the release says so on a turn of its own', async () => {
    const { stragglers, sockets, protocol, holds, passed } = setUp()
    const hold = holds.hold(sockets[0])
    stragglers.watch([sockets[0]])
    protocol.obstacles.clear()
    expect(stragglers.ready()).toEqual(new Set())
    hold[Symbol.dispose]()
    expect(passed()).toBe(0)
    await new Promise((resolve) => setImmediate(resolve))
    expect(passed()).toBe(1)
    expect(stragglers.ready()).toEqual(new Set([sockets[0]]))
  })

  it('are forgotten once they have ended', () => {
    const { stragglers, sockets, protocol } = setUp()
    stragglers.watch(sockets)
    sockets[0].destroyed = true
    protocol.obstacles.clear()
    expect(stragglers.ready()).toEqual(new Set([sockets[1]]))
    expect(protocol.watched.size).toBe(0)
  })

  it('drain when they turn into something that cannot move', () => {
    const { stragglers, sockets, protocol, stuck } = setUp()
    stragglers.watch(sockets)
    protocol.obstacles.set(sockets[0], { reason: 'TLS was started on it', passes: false })
    expect(stragglers.ready()).toEqual(new Set())
    expect(stuck).toEqual([sockets[0]])
    expect([...protocol.watched.keys()]).toEqual([sockets[1]])
  })

  it('are watched by the protocol that they have changed to', () => {
    const { stragglers, sockets, protocol, other, ofOther, inTheMiddle } = setUp()
    stragglers.watch([sockets[0]])
    ofOther.add(sockets[0])
    other.obstacles.set(sockets[0], inTheMiddle)
    expect(stragglers.ready()).toEqual(new Set())
    expect([protocol.watched.size, other.watched.size]).toEqual([0, 1])
    other.obstacles.clear()
    expect(stragglers.ready()).toEqual(new Set([sockets[0]]))
  })

  it('drain where they carry state beside state of the whole server, which has moved', () => {
    const { stragglers, sockets, carriers, said } = setUp({ carries: true })
    carriers.add(sockets[0])
    expect(stragglers.watch(sockets)).toEqual([sockets[0]])
    expect(said).toEqual([expect.stringMatching(/^1 connections that were deferred drain/)])
    expect(stragglers.giveUp()).toEqual([sockets[1]])
  })

  it('are handed back when nothing moves any more', () => {
    const { stragglers, sockets, protocol } = setUp()
    stragglers.watch(sockets)
    expect(stragglers.giveUp()).toEqual(sockets)
    expect(protocol.watched.size).toBe(0)
    protocol.obstacles.clear()
    expect(stragglers.ready()).toEqual(new Set())
  })
})
