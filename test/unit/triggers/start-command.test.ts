import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { readStartCommand } from '../../../src/triggers/start-command.js'

describe('the working directory of the new version', () => {
  it('is what the shell shows, where a symbolic link leads to the present one', () => {
    const link = join(temporaryFolder(), 'current')
    symlinkSync(process.cwd(), link)
    expect(readStartCommand({ PWD: link }).cwd).toBe(link)
  })

  it('is the real one where PWD is of another folder, of one that is gone, relative or missing', () => {
    const other = temporaryFolder()
    for (const PWD of [other, join(other, 'gone'), '.', '', undefined]) {
      expect(readStartCommand(PWD === undefined ? {} : { PWD }).cwd).toBe(process.cwd())
    }
  })
})

describe('the arguments of the new version', () => {
  it('are those that this process was started with', () => {
    const { args } = readStartCommand({})
    expect(args).toEqual(readFileSync(`/proc/${process.pid}/cmdline`, 'utf8').split('\0').slice(1, -1))
  })

  it('are a copy: a process title that is set later does not change them', () => {
    const before = readStartCommand({})
    const { title } = process
    process.title = 'a title that overwrites the arguments'
    onTestFinished(() => {
      process.title = title
    })
    expect(before.args).not.toEqual([])
    expect(before.args.join(' ')).not.toContain('a title')
    expect(readStartCommand({}).args).not.toEqual(before.args) // which is why it is read at load
  })
})

describe('the fresh environment', () => {
  it('is the one that this process was started with', () => {
    vi.stubEnv('TSUNAGI_UNIT_TEST', 'set since')
    vi.stubEnv('PATH', '/changed')
    onTestFinished(() => void vi.unstubAllEnvs())
    const { environment } = readStartCommand(process.env)
    expect(environment['TSUNAGI_UNIT_TEST']).toBeUndefined()
    expect(environment['PATH']).not.toBe('/changed')
    expect(environment['PATH']).toBeDefined()
  })
})

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'tsunagi-unit-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}
