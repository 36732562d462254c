import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fstatSync, mkdtempSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'
import { loadBinding } from '../../src/native/binding.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

const binding = loadBinding()
if (binding.missing) throw binding.missing

export const native = binding.native

export const NO_FDS = new Int32Array(0)

export const bytes = (content: string): Uint8Array => Buffer.from(content)

/** What makes a descriptor the same open socket or file, whatever its number. */
export function identity(fd: number): string {
  const { dev, ino } = fstatSync(fd, { bigint: true })
  return `${dev}:${ino}`
}

export function isOpen(fd: number): boolean {
  try {
    readlinkSync(`/proc/self/fd/${fd}`)
    return true
  } catch {
    return false
  }
}

export function closedAfterTest<Fds extends number[]>(...fds: Fds): Fds {
  onTestFinished(() => {
    native.closeFds(Int32Array.from(fds))
  })
  return fds
}

export function pair(): [number, number] {
  return closedAfterTest(...native.socketPair())
}

export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'tsunagi-native-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

export function thrownBy(call: () => unknown): NodeJS.ErrnoException & { address?: string } {
  try {
    call()
  } catch (error) {
    return error as NodeJS.ErrnoException
  }
  throw new Error('nothing was thrown')
}

/** Starts another Node with the addon as `native`; it is killed when the test is over. */
export function start(script: string, options: SpawnOptions & { nodeOptions?: string[]; args?: string[] } = {}): ChildProcess {
  const { nodeOptions = [], args = [], ...spawnOptions } = options
  const child = spawn(process.execPath, [...nodeOptions, '-e', withNative(script), ...args], spawnOptions)
  onTestFinished(() => {
    child.kill('SIGKILL')
  })
  return child
}

/** Runs a script like `start` and gives its output when it is over; fails when it does. */
export async function run(script: string, { nodeOptions = [] as string[], shellBefore = '' } = {}): Promise<string> {
  const child = spawn('/bin/sh', ['-c', `${shellBefore}\nexec "$@"`, 'sh', process.execPath, ...nodeOptions, '-e', withNative(script)])
  onTestFinished(() => {
    child.kill('SIGKILL')
  })
  const [stdout, stderr, [code, signal]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  if (code !== 0) throw new Error(`the script ended with ${signal ?? code}: ${stderr}`)
  return stdout.trim()
}

function withNative(script: string): string {
  return `const native = require(${JSON.stringify(join(ROOT, 'node_modules/node-gyp-build'))})(${JSON.stringify(ROOT)});\n${script}`
}
