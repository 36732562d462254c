import { once } from 'node:events'
import { Socket } from 'node:net'
import { expect, it, vi } from 'vitest'
import { Holds } from '../../src/holds.js'

it('holds a connection until the last of its holds is disposed of', () => {
  const [holds, socket] = [new Holds(), new Socket()]
  const [first, second] = [holds.hold(socket), holds.hold(socket)]
  expect(holds.isHeld(socket)).toBe(true)
  expect(holds.size).toBe(1)
  first[Symbol.dispose]()
  expect(holds.isHeld(socket)).toBe(true)
  second[Symbol.dispose]()
  expect(holds.isHeld(socket)).toBe(false)
  expect(holds.size).toBe(0)
})

it('counts a hold that is disposed of twice once', () => {
  const [holds, socket] = [new Holds(), new Socket()]
  const [first] = [holds.hold(socket), holds.hold(socket)]
  first[Symbol.dispose]()
  first[Symbol.dispose]()
  expect(holds.isHeld(socket)).toBe(true)
})

it('calls back when a connection is held no more, until that is stopped', () => {
  const [holds, socket, callback] = [new Holds(), new Socket(), vi.fn()]
  const stop = holds.onRelease(callback)
  const [first, second] = [holds.hold(socket), holds.hold(socket)]
  first[Symbol.dispose]()
  expect(callback).not.toHaveBeenCalled()
  second[Symbol.dispose]()
  expect(callback).toHaveBeenCalledOnce()
  stop()
  holds.hold(socket)[Symbol.dispose]()
  expect(callback).toHaveBeenCalledOnce()
})

it('lets a callback stop itself and others while they are called', () => {
  const [holds, socket, last] = [new Holds(), new Socket(), vi.fn()]
  const stop = holds.onRelease(() => stop())
  holds.onRelease(last)
  holds.hold(socket)[Symbol.dispose]()
  holds.hold(socket)[Symbol.dispose]()
  expect(last).toHaveBeenCalledTimes(2)
})

it('ends with its connection, and says so once', async () => {
  const [holds, socket, callback] = [new Holds(), new Socket(), vi.fn()]
  const hold = holds.hold(socket)
  holds.onRelease(callback)
  socket.destroy()
  await once(socket, 'close')
  expect(holds.size).toBe(0)
  hold[Symbol.dispose]()
  expect(callback).toHaveBeenCalledOnce()
})

it('leaves no listener on the connection', () => {
  const [holds, socket] = [new Holds(), new Socket()]
  const before = socket.listenerCount('close')
  const all = Array.from({ length: 20 }, () => holds.hold(socket))
  expect(socket.listenerCount('close')).toBe(before + 1)
  for (const hold of all) hold[Symbol.dispose]()
  expect(socket.listenerCount('close')).toBe(before)
})
