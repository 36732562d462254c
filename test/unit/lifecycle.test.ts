import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, it, vi } from 'vitest'
import { Lifecycle } from '../../src/lifecycle.js'

const BOOTED = () => Promise.resolve()
const NEVER = () => new Promise<void>(() => {})
const NONE_PENDING = () => false

describe('owned', () => {
  it('resolves when the process owns, and for those who ask later', async () => {
    const lifecycle = new Lifecycle()
    const resolved = vi.fn()
    lifecycle.owned.then(resolved)
    await turn()
    expect(resolved).not.toHaveBeenCalled()
    expect(lifecycle.isOwner).toBe(false)
    lifecycle.own()
    await lifecycle.owned
    expect(resolved).toHaveBeenCalledOnce()
    expect(lifecycle.isOwner).toBe(true)
  })

  it('ends with retire, of which the signal tells', () => {
    const lifecycle = new Lifecycle()
    lifecycle.own()
    const aborted = vi.fn()
    lifecycle.retiring.addEventListener('abort', aborted)
    expect(lifecycle.retiring.aborted).toBe(false)
    lifecycle.retire()
    lifecycle.retire()
    expect(aborted).toHaveBeenCalledOnce()
    expect(lifecycle.retiring.aborted).toBe(true)
    expect(lifecycle.isOwner).toBe(false)
  })
})

describe('whenReady', () => {
  it('resolves after the main module and a quiet turn', async () => {
    const order: string[] = []
    setImmediate(() => order.push('a listening handler of this turn'))
    await new Lifecycle().whenReady(BOOTED, NONE_PENDING)
    expect(order).toEqual(['a listening handler of this turn'])
  })

  it('resolves when ready() is called, whether the main module is evaluated or not', async () => {
    const lifecycle = new Lifecycle()
    const ready = lifecycle.whenReady(NEVER, NONE_PENDING)
    lifecycle.ready()
    await ready
    await lifecycle.whenReady(NEVER, NONE_PENDING)
  })

  it('resolves when the application asks for ownership: its main module may wait for that', async () => {
    const lifecycle = new Lifecycle()
    const ready = lifecycle.whenReady(NEVER, NONE_PENDING)
    const owned = lifecycle.askForOwnership()
    await ready
    lifecycle.own()
    await owned
  })

  it('waits for a listen() that has not called back', async () => {
    const lifecycle = new Lifecycle()
    const resolved = vi.fn()
    let pending = true
    const ready = lifecycle.whenReady(BOOTED, () => pending).then(resolved)
    for (let i = 0; i < 5; i++) await turn()
    expect(resolved).not.toHaveBeenCalled()
    pending = false
    await ready
  })

  it('waits for every promise that was given to ready(), also for one that is given meanwhile', async () => {
    const lifecycle = new Lifecycle()
    const [first, second] = [deferred(), deferred()]
    lifecycle.ready(first.promise)
    const resolved = vi.fn()
    const ready = lifecycle.whenReady(BOOTED, NONE_PENDING).then(resolved)
    await turn()
    lifecycle.ready(second.promise)
    first.resolve()
    for (let i = 0; i < 5; i++) await turn()
    expect(resolved).not.toHaveBeenCalled()
    second.resolve()
    await ready
  })

  it('rejects when a promise that was given to ready() does', async () => {
    const lifecycle = new Lifecycle()
    lifecycle.ready(Promise.reject(new Error('no database')))
    await expect(lifecycle.whenReady(BOOTED, NONE_PENDING)).rejects.toThrow('no database')
  })
})

function deferred(): { promise: Promise<void>; resolve(): void } {
  let resolve!: () => void
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  return { promise, resolve }
}
