import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Drain } from '../../../src/predecessor/drain.js'
import { SignalGate } from '../../../src/triggers/signals.js'
import { leaveAfterStart } from '../../../src/triggers/start.js'

const GRACE = 5_000
const exit = vi.spyOn(process, 'exit').mockImplementation(() => undefined as never)
const { emit } = process

beforeEach(() => void vi.useFakeTimers())

afterEach(() => {
  vi.useRealTimers()
  vi.clearAllMocks()
  process.emit = emit
})

describe('a predecessor that was replaced by a start', () => {
  it('says that it has left when its loop is empty, and ends by itself', () => {
    const { sayLeft } = leave()
    process.emit('beforeExit', 0)
    expect(sayLeft).toHaveBeenCalledOnce()
    expect(exit).not.toHaveBeenCalled()
  })

  it('ends what is left when the grace period is over, and itself a moment later, with 0', () => {
    const { drain, log, sayLeft } = leave(3)
    vi.advanceTimersByTime(GRACE - 1)
    expect(drain.endAll).not.toHaveBeenCalled()
    vi.advanceTimersByTime(1)
    expect(drain.endAll).toHaveBeenCalledOnce()
    expect(log).toHaveBeenCalledWith('the grace period of 5 s is over: 3 connections are ended')
    expect(exit).not.toHaveBeenCalled()
    vi.advanceTimersByTime(250)
    expect(sayLeft).toHaveBeenCalledOnce()
    expect(exit).toHaveBeenCalledExactlyOnceWith(0)
  })

  it('says nothing of connections at the end of the grace period where none is left', () => {
    const { log } = leave(0)
    vi.advanceTimersByTime(GRACE + 250)
    expect(log).not.toHaveBeenCalled()
    expect(exit).toHaveBeenCalledExactlyOnceWith(0)
  })

  it('does the same at once at a signal, and only once', () => {
    const { gate, drain } = leave(1)
    gate.close()
    process.emit('SIGTERM', 'SIGTERM')
    process.emit('SIGINT', 'SIGINT')
    expect(drain.endAll).toHaveBeenCalledOnce()
    vi.advanceTimersByTime(GRACE * 2)
    expect(drain.endAll).toHaveBeenCalledOnce()
    expect(exit).toHaveBeenCalledExactlyOnceWith(0)
  })
})

function leave(left = 1) {
  const [gate, log, sayLeft] = [new SignalGate(), vi.fn(), vi.fn()]
  const drain = { left, endAll: vi.fn(), serveWaiting: () => false }
  leaveAfterStart({ env: { log }, grace: GRACE, gate } as never, drain as unknown as Drain, sayLeft)
  return { gate, log, sayLeft, drain }
}
