import { once } from 'node:events'
import { setImmediate as turn } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { SignalGate } from '../../../src/triggers/signals.js'

const SIGNALS = ['SIGINT', 'SIGTERM'] as const

/** What the test runner listens with is out of the way, and what a test leaves behind shows. */
let runners: Map<NodeJS.Signals, NodeJS.SignalsListener[]>
const { emit } = process

beforeEach(() => {
  runners = new Map(SIGNALS.map((signal) => [signal, process.rawListeners(signal) as NodeJS.SignalsListener[]]))
  for (const [signal, listeners] of runners) for (const listener of listeners) process.off(signal, listener)
})

afterEach(() => {
  vi.useRealTimers()
  process.emit = emit // a gate that stays closed, as after a handover, is of one test only
  for (const [signal, listeners] of runners) {
    process.removeAllListeners(signal)
    for (const listener of listeners) process.on(signal, listener)
  }
})

describe.each(SIGNALS)('%s of the system', (signal) => {
  it('is held while the gate is closed, and delivered as it was when it opens', async () => {
    const [gate, listener] = [new SignalGate(), listenerOf(signal)]
    gate.close()
    await send(signal)
    expect(listener).not.toHaveBeenCalled()
    gate.open()
    expect(listener.mock.calls).toEqual([[signal, signal === 'SIGINT' ? 2 : 15]])
    await send(signal)
    expect(listener).toHaveBeenCalledTimes(2)
  })

  it('is swallowed once the successor serves: it only says to leave', async () => {
    const [gate, listener, onLeave] = [new SignalGate(), listenerOf(signal), vi.fn()]
    gate.close()
    gate.leaveBy(onLeave)
    expect(onLeave).not.toHaveBeenCalled()
    await send(signal)
    expect(onLeave).toHaveBeenCalledOnce()
    expect(listener).not.toHaveBeenCalled()
  })

  it('that was held says to leave once the successor serves', async () => {
    const [gate, listener, onLeave] = [new SignalGate(), listenerOf(signal), vi.fn()]
    gate.close()
    await send(signal)
    gate.leaveBy(onLeave)
    expect(onLeave).toHaveBeenCalledOnce()
    expect(listener).not.toHaveBeenCalled()
  })

  it('is given to the application before a supervisor would kill it', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout'] })
    const [gate, listener] = [new SignalGate(() => 20), listenerOf(signal)]
    gate.close()
    await send(signal)
    expect(listener).not.toHaveBeenCalled()
    vi.advanceTimersByTime(20)
    expect(listener).toHaveBeenCalledOnce()
  })

  it('is held all the same where the application does not listen: the supervisor may as well kill it', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout'] })
    const [gate, onLeave] = [new SignalGate(() => 200), vi.fn()]
    gate.close()
    await send(signal)
    const kill = vi.spyOn(process, 'kill').mockReturnValue(true)
    vi.advanceTimersByTime(300)
    gate.leaveBy(onLeave)
    expect(onLeave).toHaveBeenCalledOnce()
    expect(kill).not.toHaveBeenCalled()
    kill.mockRestore()
  })

  it('given twice is delivered once, at once', async () => {
    const [gate, listener] = [new SignalGate(), listenerOf(signal)]
    gate.close()
    await send(signal)
    await send(signal)
    expect(listener).toHaveBeenCalledOnce()
    gate.open()
    expect(listener).toHaveBeenCalledOnce()
  })

  it('that nobody listens for is given back to the system', async () => {
    const gate = new SignalGate()
    gate.close()
    await send(signal)
    const kill = vi.spyOn(process, 'kill').mockReturnValue(true)
    onTestFinished(() => kill.mockRestore())
    gate.open()
    expect(kill.mock.calls).toEqual([[process.pid, signal]])
  })

  it('leaves listeners as they were: their number, their order, and once', async () => {
    const order: number[] = []
    process.once(signal, () => order.push(1))
    process.on(signal, () => order.push(2))
    const before = process.rawListeners(signal)
    const gate = new SignalGate()
    gate.close()
    expect(process.listenerCount(signal)).toBe(1)
    gate.open()
    expect(process.rawListeners(signal)).toEqual(before)
    await send(signal)
    await send(signal)
    expect(order).toEqual([1, 2, 2])
  })

  it('that the application emits itself is held as well', () => {
    const [gate, listener] = [new SignalGate(), listenerOf(signal)]
    gate.close()
    expect(process.emit(signal, signal)).toBe(true)
    expect(listener).not.toHaveBeenCalled()
    gate.open()
    expect(listener).toHaveBeenCalledOnce()
  })
})

describe("PM2's message 'shutdown'", () => {
  it('is held, and delivered when the gate opens; other messages pass', () => {
    const [gate, listener] = [new SignalGate(), vi.fn()]
    process.on('message', listener)
    onTestFinished(() => void process.off('message', listener))
    gate.close()
    process.emit('message', 'shutdown', undefined)
    process.emit('message', { type: 'other' }, undefined)
    expect(listener.mock.calls).toEqual([[{ type: 'other' }, undefined]])
    gate.open()
    expect(listener).toHaveBeenLastCalledWith('shutdown', undefined)
  })
})

describe('the gate', () => {
  it('leaves nothing behind: neither listeners nor a wrapped emit', () => {
    const before = [process.emit, ...SIGNALS.map((signal) => process.listenerCount(signal))]
    const gate = new SignalGate()
    for (let i = 0; i < 3; i++) {
      gate.close()
      gate.close()
      gate.open()
      gate.open()
    }
    expect([process.emit, ...SIGNALS.map((signal) => process.listenerCount(signal))]).toEqual(before)
  })

  it('lets everything pass that somebody else has wrapped meanwhile', () => {
    const [gate, listener] = [new SignalGate(), listenerOf('SIGTERM')]
    gate.close()
    const gated = process.emit
    process.emit = function wrapped(this: NodeJS.Process, ...args: unknown[]) {
      return Reflect.apply(gated, this, args)
    } as typeof process.emit
    gate.open()
    process.emit('SIGTERM', 'SIGTERM')
    expect(listener).toHaveBeenCalledOnce()
  })
})

function listenerOf(signal: NodeJS.Signals) {
  const listener = vi.fn()
  process.on(signal, listener)
  return listener
}

/** A real one, through the kernel and libuv. It has been handled when another that was sent after it has been. */
async function send(signal: NodeJS.Signals): Promise<void> {
  const handled = once(process, 'SIGUSR2')
  process.kill(process.pid, signal)
  process.kill(process.pid, 'SIGUSR2')
  await handled
  await turn()
}
