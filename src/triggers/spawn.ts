import type { ChildProcess } from 'node:child_process'
import type { Readable } from 'node:stream'
import { canaryOption } from '../canary.js'
import { TsunagiError } from '../errors.js'
import type { HandoverReport } from '../handover/report.js'
import type { Installation } from '../installation.js'
import { allRead, collect } from './boot-output.js'
import { launchChild, launchDetached } from './launch.js'
import type { StartCommand } from './start-command.js'

export interface ReloadOptions {
  /**
   * Environment of the new version: 'current' is this process's as it is now, 'fresh' the one that it was started with, without what it has
   * changed since (dotenv does), an object is taken as it is.
   * @default 'current'
   */
  env?: 'current' | 'fresh' | NodeJS.ProcessEnv
  /** Milliseconds that the new version may take until it serves. @default 60_000 */
  timeout?: number
  /**
   * Connections, 1 or more, that the new version gets at first, without the listeners: it is watched with them, and gets the rest only if it is well for
   * `watch` milliseconds. If it is not, it gives them back. Refused where state is carried for a whole server. Without it `TSUNAGI_CANARY` counts.
   * @default none
   */
  canary?: number
  /** Milliseconds that the new version is watched with its canary. @default 10_000 */
  watch?: number
}

/**
 * Starts the new version with the same arguments and waits until it serves. Where it does not come so far this process goes on serving, and
 * the error says why, with what the new version has printed.
 */
export async function spawnSuccessor(
  installation: Installation,
  options: ReloadOptions,
  { environment = {}, isDetached = false }: Pick<Partial<Succession>, 'environment' | 'isDetached'> = {},
): Promise<HandoverReport> {
  const why = whyNoReload(installation)
  if (why) throw why
  const { desk, start } = installation
  const canary = canaryOption(options)
  const token = newToken()
  try {
    return await startNewVersion(start, options, {
      environment: { ...environment, TSUNAGI_TOKEN: token },
      isDetached,
      whenServing: (_, resolve, reject) => desk.watch({ token, canary, succeeded: resolve, failed: reject }),
      hasCommitted: () => desk.busyWith?.hasCommitted === true,
    })
  } finally {
    desk.watch(undefined)
  }
}

export function whyNoReload({ desk, lifecycle }: Installation): TsunagiError | undefined {
  if (!lifecycle.isOwner) return failure(NOT_SERVING)
  if (!desk.busyWith && !desk.isWatched) return undefined
  return new TsunagiError('ERR_TSUNAGI_BUSY', 'A reload or a handover is under way already.', { serving: true })
}

/** What the new version gets from this process, and how it becomes known that it serves. */
export interface Succession {
  readonly environment: NodeJS.ProcessEnv
  /** For `stdio` from FIRST_GIVEN_FD on. */
  readonly stdio?: readonly (number | 'pipe')[]
  /** It is to be nobody's child, so that it is re-parented to the service manager. */
  readonly isDetached?: boolean
  whenServing(child: ChildProcess, resolve: (report: HandoverReport) => void, reject: (reason: Error) => void): void
  /** Whether connections are its own: then it is not killed any more, since its death would be theirs. */
  hasCommitted(): boolean
}

export async function startNewVersion(
  start: StartCommand,
  { env = 'current', timeout = 60_000 }: ReloadOptions,
  succession: Succession,
): Promise<HandoverReport> {
  const environment = env === 'current' ? process.env : env === 'fresh' ? start.environment : env
  const launch = succession.isDetached ? launchDetached : launchChild
  const { child, whenEnded, end } = launch(start, { ...environment, ...succession.environment, TSUNAGI_REPORT_FD: '3' }, succession.stdio)
  const output = collect(child)
  const ended = new Promise<void>((resolve) => whenEnded(() => resolve()))
  try {
    const report = await new Promise<HandoverReport>((resolve, reject) => {
      succession.whenServing(child, resolve, reject)
      child.on('error', reject)
      whenEnded((how) => succession.hasCommitted() || reject(failure(`it ended${how} before it served`)))
      setTimeout(() => succession.hasCommitted() || reject(failure(`it did not serve within ${timeout} ms`)), timeout).unref()
    })
    return report
  } catch (cause) {
    await Promise.race([ended, lastWords()])
    await end()
    await allRead(child.stdio[3] as Readable)
    throw Object.assign(didNotTakeOver(cause as Error), { output: output() })
  } finally {
    child.removeAllListeners()
    child.unref()
    ;(child.stdio[3] as Readable).destroy()
  }
}

/** What has failed is often about to say why on its standard error, and ends by itself then. */
function lastWords(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, LAST_WORDS_MS))
}

/** One that was watched says all there is to say. */
function didNotTakeOver(cause: Error): TsunagiError {
  if ((cause as TsunagiError).code === 'ERR_TSUNAGI_CANARY') return cause as TsunagiError
  const reason = cause.message.replace(/\.$/, '')
  const message = `The new version did not take over: ${reason}. This process goes on serving.`
  return new TsunagiError('ERR_TSUNAGI_RELOAD', message, { serving: true, cause })
}

export function failure(reason: string): TsunagiError {
  return new TsunagiError('ERR_TSUNAGI_RELOAD', reason, { serving: true })
}

export function newToken(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString('hex')
}

export const NOT_SERVING = 'this process does not serve: it has not taken over yet, or has handed over already'
/** Behind stdin, stdout, stderr and the report. */
export const FIRST_GIVEN_FD = 4
const LAST_WORDS_MS = 1_500
