import { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { Holds } from '../../../src/holds.js'
import type { Installation } from '../../../src/installation.js'
import { quiesce, quiesceAll } from '../../../src/predecessor/quiesce.js'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** Sockets with descriptors from 3 on, and what becomes of them. */
function setUp({ sockets: count = 2, carries = true } = {}) {
  const events: string[] = []
  const sockets = Array.from({ length: count }, (_, i) => {
    const _handle = { fd: 3 + i, reading: true, readStart: () => events.push(`reads ${3 + i}`) }
    return Object.assign(new EventEmitter(), { _handle, destroyed: false }) as unknown as Socket & { destroyed: boolean }
  })
  const holds = new Holds()
  const busy = new Set<Socket>()
  const protocol = {
    name: 'fake',
    kind: undefined,
    obstacleOf: (socket: Socket) => (busy.has(socket) ? { reason: 'in the middle', passes: true } : undefined),
  }
  const attached = { server: {}, asked: true, options: { policy: () => 'move' } }
  const installation = {
    carried: { hasServerState: () => carries, hasConnectionState: false },
    holds,
    servers: new Set([attached]),
    finder: { find: () => new Map([[attached, sockets]]) },
    flow: { finish: () => events.push('all are read') },
    protocols: { of: () => protocol, areTogether: () => false, rest: (onRest: () => void) => void setImmediate(onRest) },
    env: { now: () => Date.now(), native: { stopReading: (fds: Int32Array) => events.push(`stops ${[...fds].join()}`) } },
  } as unknown as Installation
  const freeze = (thaw: () => void) => {
    events.push('freeze')
    undo = thaw
  }
  let undo = () => {}
  return { events, sockets, holds, busy, installation, freeze, thaw: () => undo(), attached }
}

it('goes on at once, on a macrotask of its own, where nobody holds a connection', () => {
  const { events, installation, freeze } = setUp()
  quiesce(installation, freeze)
  expect(events).toEqual(['all are read'])
  vi.runAllTimers()
  expect(events).toEqual(['all are read', 'freeze'])
})

it('does not wait for a held connection where no server carries state', () => {
  const { events, holds, sockets, installation, freeze } = setUp({ carries: false })
  holds.hold(sockets[0] as Socket)
  quiesce(installation, freeze)
  vi.runAllTimers()
  expect(events).toEqual(['all are read', 'freeze'])
})

it('reads nothing new until the last hold is released, and all again after a thaw but what has gone', () => {
  const { events, holds, sockets, installation, freeze, thaw } = setUp({ sockets: 3 })
  const [first, second] = [holds.hold(sockets[0] as Socket), holds.hold(sockets[1] as Socket)]
  quiesce(installation, freeze)
  first[Symbol.dispose]()
  vi.advanceTimersByTime(10)
  expect(events).toEqual(['all are read', 'stops 3,4,5'])
  second[Symbol.dispose]()
  vi.advanceTimersByTime(10)
  expect(events.splice(0)).toEqual(['all are read', 'stops 3,4,5', 'freeze'])
  Object.assign(sockets[1] as Socket, { destroyed: true })
  thaw()
  expect(events).toEqual(['reads 3', 'reads 5'])
})

it('waits for 250 ms at most, and freezes once', () => {
  const { events, holds, sockets, installation, freeze } = setUp()
  const hold = holds.hold(sockets[0] as Socket)
  quiesce(installation, freeze)
  vi.advanceTimersByTime(249)
  expect(events).not.toContain('freeze')
  vi.advanceTimersByTime(10)
  hold[Symbol.dispose]()
  vi.runAllTimers()
  expect(events.filter((event) => event === 'freeze')).toHaveLength(1)
})

it('before leaving, is done before it returns where nothing is in the middle of something', () => {
  const { events, installation, freeze } = setUp()
  quiesceAll(installation, installation.servers, freeze)
  expect(events).toEqual(['all are read', 'freeze'])
})

it.each([20, undefined])('before leaving, reads on what is in the middle of something and on nothing else, for %s ms', (ms) => {
  const { events, busy, sockets, installation, freeze } = setUp()
  busy.add(sockets[0] as Socket)
  quiesceAll(installation, installation.servers, freeze)
  expect(events).toEqual(['all are read', 'stops 4'])
  if (ms) setTimeout(() => busy.clear(), ms)
  vi.advanceTimersByTime((ms ?? 250) - 5)
  expect(events).not.toContain('freeze')
  vi.advanceTimersByTime(15)
  expect(events).toEqual(['all are read', 'stops 4', 'freeze'])
})
