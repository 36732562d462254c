import { writeSync } from 'node:fs'
import type { Readable } from 'node:stream'
import type { AttachedServer } from '../attached-server.js'
import { TsunagiError } from '../errors.js'
import type { HandoverReport } from '../handover/report.js'
import { becomeInPlace, type KeptInPlace, keptInPlace } from '../holders/in-place.js'
import type { Installation } from '../installation.js'
import { leave } from '../predecessor/leave.js'
import { quiesceAll } from '../predecessor/quiesce.js'
import { allRead, collect, REPORT_FD } from './boot-output.js'
import { launchChild } from './launch.js'
import { failure, type ReloadOptions, whyNoReload } from './spawn.js'

/**
 * The new version in the place of this one, with the same process number: for an application that is process 1 of its container, whose end would be the
 * container's. There is no overlap, and from `execve` on no way back: so the new version is tried first, in a process of its own that boots, listens nowhere,
 * and ends. A signal that comes between `execve` and the new version's own handlers does what it does by default; as process 1 that is nothing.
 */
export async function reloadInPlace(installation: Installation, options: ReloadOptions): Promise<HandoverReport> {
  if (options.canary !== undefined) throw failure('in place there is no overlap, in which a canary could be watched')
  const why = whyNoReload(installation)
  if (why) throw why
  const { desk, start, env } = installation
  desk.watch({ token: '', succeeded() {}, failed() {} }) // one reload at a time
  try {
    const environment = environmentOf(options, start.environment)
    await tryToBoot(installation, environment, options.timeout ?? 60_000)
    await Promise.all([flushed(process.stdout), flushed(process.stderr)]) // what a pipe has not taken yet would be lost
    const report = { ...(await leaveInPlace(installation)), successor: process.pid }
    // Whoever has asked is told before this process is another program.
    setTimeout(() => become(installation, environment), TELLING_MS)
    return report
  } catch (error) {
    desk.watch(undefined)
    env.log((error as Error).message)
    throw error
  }
}

function environmentOf({ env = 'current' }: ReloadOptions, initial: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return { ...(env === 'current' ? process.env : env === 'fresh' ? initial : env) }
}

async function tryToBoot({ start }: Installation, environment: NodeJS.ProcessEnv, timeout: number): Promise<void> {
  const { child, whenEnded, end } = launchChild(start, { ...environment, TSUNAGI_TRIAL: '1', TSUNAGI_REPORT_FD: '3' }, ['pipe'])
  const output = collect(child)
  const ready = child.stdio[TRIAL_FD] as Readable
  try {
    await new Promise<void>((resolve, reject) => {
      ready.once('data', () => resolve())
      whenEnded((how) => setImmediate(() => reject(failure(`it ended${how} in its trial`))))
      child.on('error', reject)
      setTimeout(() => reject(failure(`it was not ready within ${timeout} ms in its trial`)), timeout).unref()
    })
    await end()
  } catch (cause) {
    await end()
    await allRead(child.stdio[REPORT_FD] as Readable)
    const reason = `The new version does not boot: ${(cause as Error).message}. This process goes on serving.`
    throw Object.assign(new TsunagiError('ERR_TSUNAGI_RELOAD', reason, { serving: true, cause }), { output: output() })
  }
}

function leaveInPlace(installation: Installation): Promise<HandoverReport> {
  const servers = new Map<AttachedServer, 'hold'>(
    [...installation.servers].filter(({ isShared }) => !isShared).map((each) => [each, 'hold']),
  )
  return new Promise((resolve, reject) => {
    quiesceAll(installation, new Set(servers.keys()), (thaw) => {
      const undo = becomeInPlace(installation)
      const left = leave(installation, { servers, datagrams: new Set(installation.datagrams.keys()) })
      undo()
      if (left) return resolve(left.report)
      thaw()
      reject(failure('its connections could not be kept'))
    })
  })
}

/** What could not be left in place ends with this program. */
function become(installation: Installation, environment: NodeJS.ProcessEnv): void {
  const { env, start } = installation
  const kept = keptInPlace(installation) as KeptInPlace
  const channel = process.connected ? start.channel : {}
  const all = { ...environment, ...channel, [kept.name]: kept.value }
  const { NODE_CHANNEL_FD: channelFd } = channel
  const fds = channelFd === undefined ? kept.fds : [...kept.fds, Number(channelFd)]
  try {
    process.chdir(start.cwd)
    const variables = Object.entries(all).map(([name, value]) => `${name}=${value}`)
    env.native.execute(process.execPath, [process.argv0, ...start.args], variables, Int32Array.from(fds))
  } catch (error) {
    env.log(`${process.execPath} could not be executed: ${(error as Error).message}. The connections end with this process.`)
    process.exit(EXIT_SOFTWARE)
  }
}

function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => stream.write('', () => resolve()))
}

/** Behind stdin, stdout, stderr and the report. */
const TRIAL_FD = 4
/** A few bytes on a unix socket. */
const TELLING_MS = 10
/** @note EX_SOFTWARE of sysexits.h: an internal error. */
const EXIT_SOFTWARE = 70

/** The other side: this process is only tried. It listens nowhere, owns nothing, says that it is ready, and is ended. */
export async function reportTrial(installation: Installation): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve)) // now the preloads run: the main module has not begun
  const keepAlive = setTimeout(() => {}, 2 ** 31 - 1)
  await installation.whenReady()
  writeSync(TRIAL_FD, 'ready')
  clearTimeout(keepAlive)
}
