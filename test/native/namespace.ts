import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'
import * as verification from '../../src/native/native.js'
import * as repair from '../../src/native/repair.js'
import { makeTools, type Tools } from './namespace-tools.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** A process of its own in a network namespace of its own, where only `lo` is, so that neither sockets nor rules of this machine are touched. */
export interface Namespace {
  pid: number
  /** Runs `body` there. It may use only its parameters: its source is what travels. */
  run<Args, Result>(body: (tools: Tools, args: Args) => Result | Promise<Result>, args: Args): Promise<Result>
}

/**
 * `root` as this user, where that is allowed; `user` in a user namespace as well, with the rights of its root only. `within`: what enters the user
 * namespace of another one first, which the two then share.
 */
export async function namespace(
  kind: 'root' | 'user' = process.getuid?.() === 0 ? 'root' : 'user',
  within: readonly string[] = [],
): Promise<Namespace> {
  const unshare = ['unshare', ...(kind === 'root' || within.length > 0 ? ['--net'] : ['--user', '--map-root-user', '--net'])]
  const setUp = 'ip link set lo up && exec "$@"'
  const [program = '', ...args] = [...within, ...unshare, '--', 'sh', '-c', setUp, 'sh', process.execPath, '-e', childScript()]
  const child = spawn(program, args, {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    serialization: 'advanced',
  })
  onTestFinished(() => {
    child.kill('SIGKILL')
  })
  const ended = once(child, 'close').then(([code, signal]) => {
    throw new Error(`the process in the namespace ended with ${signal ?? code}`)
  })
  ended.catch(() => {})
  await Promise.race([once(child, 'message'), ended])
  return {
    pid: child.pid as number,
    async run(body, args) {
      child.send({ source: String(body), args })
      const [answer] = (await Promise.race([once(child, 'message'), ended])) as [{ result?: never; error?: string }]
      if (answer.error !== undefined) throw new Error(answer.error)
      return answer.result as never
    },
  }
}

/** In front of a program that is to run in the network namespace of a process, and in its user namespace where that governs it. */
export function inNetworkOf(pid: number, kind: 'root' | 'user'): readonly string[] {
  const user = kind === 'user' ? ['--user', '--preserve-credentials'] : []
  return ['nsenter', '--target', String(pid), ...user, '--net', '--']
}

function childScript(): string {
  const values = JSON.stringify({ ...verification, ...repair })
  return `
    const native = require(${JSON.stringify(join(ROOT, 'node_modules/node-gyp-build'))})(${JSON.stringify(ROOT)})
    const tools = (${makeTools})(native, ${values}, require)
    process.on('message', async ({ source, args }) => {
      try {
        process.send({ result: await (0, eval)('(' + source + ')')(tools, args) })
      } catch (error) {
        process.send({ error: String(error?.stack ?? error) })
      }
    })
    process.send('ready')`
}
