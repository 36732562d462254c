import { fstatSync, openSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { expect, it, onTestFinished, vi } from 'vitest'
import { reportBoot } from '../../../src/triggers/spawned.js'

it('does nothing in a process that no reload has started', () => {
  const before = [process.stdout.write, process.listenerCount('uncaughtExceptionMonitor')]
  reportBoot({ environment: {} }, Promise.resolve())
  expect([process.stdout.write, process.listenerCount('uncaughtExceptionMonitor')]).toEqual(before)
})

it('reports what is written and the error that ends the process, which are written as ever', () => {
  const { reported, written } = boot()
  process.stdout.write('to stdout\n')
  process.stderr.write(Buffer.from('to stderr\n'))
  const monitor = process.listeners('uncaughtExceptionMonitor').at(-1) as (error: unknown) => void
  monitor(Object.assign(new Error('no database'), { stack: 'Error: no database\n    at boot' }))
  monitor('a string that was thrown')
  expect(reported()).toBe('to stdout\nto stderr\nError: no database\n    at boot\na string that was thrown\n')
  expect(written()).toBe('to stdout\nto stderr\n')
})

it('takes itself away once the process serves: streams, listener and descriptor', async () => {
  const before = process.listenerCount('uncaughtExceptionMonitor')
  const { fd, own, reported } = boot()
  expect(process.listenerCount('uncaughtExceptionMonitor')).toBe(before + 1)
  expect(process.stdout.write).not.toBe(own[0])
  own.serve()
  await turn()
  expect(process.listenerCount('uncaughtExceptionMonitor')).toBe(before)
  expect([process.stdout.write, process.stderr.write]).toEqual([own[0], own[1]])
  expect(() => fstatSync(fd)).toThrow('EBADF')
  process.stdout.write('nobody is told\n')
  expect(reported()).toBe('')
})

it('takes the descriptor out of the environment: it is not for children', () => {
  const { environment } = boot()
  expect(environment).toEqual({ PORT: '1' })
})

it('stops at 32 KiB, so that no write waits for a reader', () => {
  const { reported } = boot()
  for (let i = 0; i < 50; i++) process.stdout.write('x'.repeat(1000))
  expect(reported()).toHaveLength(32 * 1024)
})

it('goes on in silence when whoever asked for the reload has gone', () => {
  const { written } = boot('/dev/full') // where every write fails
  process.stdout.write('is written all the same\n')
  expect(written()).toBe('is written all the same\n')
})

/** Lets this process believe that a reload has started it. What it writes is kept from the test runner. */
function boot(file = join(tmpdir(), `tsunagi-unit-report-${process.pid}`)) {
  let text = ''
  const keep = (chunk: string | Uint8Array) => {
    text += Buffer.from(chunk as string).toString()
    return true
  }
  const spies = [vi.spyOn(process.stdout, 'write'), vi.spyOn(process.stderr, 'write')]
  for (const spy of spies) spy.mockImplementation(keep)
  const own = Object.assign([process.stdout.write, process.stderr.write], { serve: () => {} })
  const owned = new Promise<void>((resolve) => {
    own.serve = resolve
  })
  const fd = openSync(file, 'w')
  const environment: NodeJS.ProcessEnv = { TSUNAGI_REPORT_FD: String(fd), PORT: '1' }
  reportBoot({ environment }, owned)
  onTestFinished(async () => {
    own.serve()
    await turn()
    for (const spy of spies) spy.mockRestore()
  })
  return { fd, own, environment, reported: () => readFileSync(file, 'utf8'), written: () => text }
}
