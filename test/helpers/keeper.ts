import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { loadBinding } from '../../src/native/binding.js'
import { stateOf } from './process.js'

const { native } = loadBinding()

/** Names under which a keeper can be found in a control directory. */
export function namesOfKeepers(directory: string): string[] {
  return readdirSync(directory).filter((name) => name.endsWith('.keep'))
}

/** The process behind them; to look is to come and to go again, which starts its time anew. */
export function pidOfKeeper(directory: string): number {
  const [name] = namesOfKeepers(directory)
  if (name === undefined || native === undefined) throw new Error(`no keeper in ${directory}`)
  const fd = native.connectUnix(join(directory, name), 1000)
  try {
    return native.peerCredentials(fd).pid
  } finally {
    native.closeFds(Int32Array.of(fd))
  }
}

/** Resolves once it holds as many descriptors of TCP connections and listeners as that. */
export async function untilHolding(pid: number, sockets: number): Promise<void> {
  while (socketsOf(pid) < sockets) await delay(5)
}

/** Its channel to the server and the socket of its names are sockets as well. */
function socketsOf(pid: number): number {
  const targets = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`))
  return targets.filter((target) => target.startsWith('socket:')).length - 2
}

export function nameOf(pid: number): string {
  return readFileSync(`/proc/${pid}/comm`, 'utf8').trim()
}

export async function untilGone(pid: number): Promise<void> {
  while (existsSync(`/proc/${pid}`) && stateOf(pid) !== 'Z') await delay(5)
}
