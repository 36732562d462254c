import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync, statSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { TsunagiError } from '../errors.js'
import type { HandoverReport } from '../handover/report.js'
import type { Installation } from '../installation.js'

export interface ReloadOptions {
  /**
   * Environment of the new version: 'current' is this process's as it is now, 'fresh' the one that it was started with, without what it has
   * changed since (dotenv does), an object is taken as it is.
   * @default 'current'
   */
  env?: 'current' | 'fresh' | NodeJS.ProcessEnv
  /** Milliseconds that the new version may take until it serves. @default 60_000 */
  timeout?: number
}

/** How this process was started, read at load: a process title overwrites it, and the symbolic link of a release is another one later. */
export interface StartCommand {
  readonly args: readonly string[]
  readonly cwd: string
  readonly environment: NodeJS.ProcessEnv
}

/** @note proc(5): cmdline and environ are separated by NUL; Node resolves argv[1] and the working directory, the shell's `PWD` keeps the link. */
export function readStartCommand(environment: NodeJS.ProcessEnv): StartCommand {
  const args = readFileSync('/proc/self/cmdline', 'utf8').split('\0').slice(1, -1)
  const initial = Object.fromEntries(
    readFileSync('/proc/self/environ', 'utf8')
      .split('\0')
      .filter(Boolean)
      .map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]),
  )
  return { args, cwd: workingDirectory(environment['PWD']), environment: initial }
}

function workingDirectory(shown: string | undefined): string {
  const real = process.cwd()
  if (shown === undefined || !shown.startsWith('/')) return real
  const [a, b] = [statSync(shown, { throwIfNoEntry: false }), statSync(real)]
  return a?.ino === b.ino && a.dev === b.dev ? shown : real
}

/**
 * Starts the new version with the same arguments and waits until it serves. Where it does not come so far this process goes on serving, and
 * the error says why, with what the new version has printed.
 */
export async function spawnSuccessor(
  installation: Installation,
  { env = 'current', timeout = 60_000 }: ReloadOptions,
): Promise<HandoverReport> {
  const { desk, lifecycle, start } = installation
  if (!lifecycle.isOwner) throw failure('this process does not serve: it has not taken over yet, or has handed over already')
  if (desk.busyWith || desk.isWatched)
    throw new TsunagiError('ERR_TSUNAGI_BUSY', 'A reload or a handover is under way already.', { serving: true })
  const token = newToken()
  const environment = env === 'current' ? process.env : env === 'fresh' ? start.environment : env
  const child = spawn(process.execPath, start.args, {
    cwd: start.cwd,
    env: { ...environment, TSUNAGI_TOKEN: token, TSUNAGI_REPORT_FD: '3' },
    stdio: ['inherit', 'inherit', 'inherit', 'pipe'],
  })
  const output = collect(child)
  try {
    const report = await new Promise<HandoverReport>((resolve, reject) => {
      desk.watch({ token, succeeded: resolve, failed: reject })
      child.on('error', reject)
      child.on('exit', (code, signal) => reject(failure(`it ended with ${signal ?? `exit code ${code}`} before it served`)))
      setTimeout(() => reject(failure(`it did not serve within ${timeout} ms`)), timeout).unref()
    })
    return report
  } catch (cause) {
    await end(child)
    const reason = (cause as Error).message
    throw Object.assign(
      new TsunagiError('ERR_TSUNAGI_RELOAD', `The new version did not take over: ${reason}. This process goes on serving.`, {
        serving: true,
        cause,
      }),
      { output: output() },
    )
  } finally {
    desk.watch(undefined)
    child.removeAllListeners()
    child.unref()
    ;(child.stdio[3] as Readable).destroy()
  }
}

/** What the new version writes until it serves: see spawned.ts. */
function collect(child: ChildProcess): () => string {
  let text = ''
  const pipe = child.stdio[3] as Readable
  pipe.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
  })
  pipe.on('error', () => {}) // the child has closed its end: it serves
  return () => text
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), TERM_MS)
  await ended
  clearTimeout(timer)
}

function failure(reason: string): TsunagiError {
  return new TsunagiError('ERR_TSUNAGI_RELOAD', reason, { serving: true })
}

function newToken(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString('hex')
}

const TERM_MS = 2_000
