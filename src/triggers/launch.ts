import type { ChildProcess, StdioOptions } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import type { Readable } from 'node:stream'
import { REPORT_FD } from './boot-output.js'
import type { StartCommand } from './start-command.js'

/** The new version, just started. Its report is on `child.stdio[REPORT_FD]` until it serves. */
export interface Launched {
  readonly child: ChildProcess
  /** Calls back when it has ended, with how, as ` with exit code 1`, as far as that is known. */
  whenEnded(tell: (how: string) => void): void
  /** Ends it, politely at first. */
  end(): Promise<void>
}

export function launchChild(start: StartCommand, environment: NodeJS.ProcessEnv, stdio: readonly (number | 'pipe')[] = []): Launched {
  const child = spawn(process.execPath, start, environment, start.args, stdio)
  return {
    child,
    whenEnded: (tell) => void child.on('exit', (code, signal) => tell(` with ${signal ?? `exit code ${code}`}`)),
    end: () => endChild(child),
  }
}

/** By way of a shell that ends at once and says the number of what it has started. Of that only the end of its report tells that it has ended. */
export function launchDetached(start: StartCommand, environment: NodeJS.ProcessEnv): Launched {
  const script = `"$0" "$@" ${PID_FD}>&- & echo $! >&${PID_FD}`
  const child = spawn('/bin/sh', start, environment, ['-c', script, process.execPath, ...start.args], ['pipe'])
  const report = child.stdio[REPORT_FD] as Readable
  const pid = readAll(child.stdio[PID_FD] as Readable).then(Number)
  return {
    child,
    whenEnded: (tell) => void report.on('close', () => tell('')),
    async end() {
      const number = await pid
      if (report.closed || !(number > 0)) return
      kill(number, 'SIGTERM')
      const timer = setTimeout(() => kill(number, 'SIGKILL'), TERM_MS)
      await once(report, 'close')
      clearTimeout(timer)
    },
  }
}

export async function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), TERM_MS)
  await ended
  clearTimeout(timer)
}

function spawn(
  file: string,
  start: StartCommand,
  env: NodeJS.ProcessEnv,
  args: readonly string[],
  more: readonly (number | 'pipe')[],
): ChildProcess {
  // Part of Node, so it needs nothing from disk; loaded at start it would cost every process 3 ms.
  const childProcess = createRequire(import.meta.url)('node:child_process') as typeof import('node:child_process')
  const stdio: StdioOptions = ['inherit', 'inherit', 'inherit', 'pipe', ...more]
  return childProcess.spawn(file, args, { cwd: start.cwd, env, stdio })
}

async function readAll(pipe: Readable): Promise<string> {
  let text = ''
  for await (const chunk of pipe.setEncoding('utf8')) text += chunk
  return text
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // it has just ended
  }
}

const PID_FD = 4
const TERM_MS = 2_000
