import { type Call, text, UsageError } from './command.js'
import { close, type FoundServer, findServers } from './find-servers.js'

/** How to name one server among those of this user; each may be given, all that are given must fit. */
export const WHICH = {
  pid: { type: 'string', value: 'PID', says: 'the process with this number' },
  name: { type: 'string', value: 'NAME', says: 'the one that was started with this TSUNAGI_NAME' },
} as const

/** Those that fit what was typed. Says on `err` who did not answer. */
export function chooseServers(call: Call): FoundServer[] {
  const [address] = call.arguments
  const pid = text(call, 'pid')
  const name = text(call, 'name')
  if (pid !== undefined && !/^\d+$/.test(pid)) throw new UsageError(`--pid is a process number, not "${pid}".`)
  const all = findServers((path, reason) => call.output.err(`tsunagi: ${path}: ${reason}\n`))
  return all.filter((server) => {
    const { status } = server
    const fits =
      (address === undefined || status.listeners.some((key) => isAt(key, address))) &&
      (pid === undefined || status.pid === Number(pid)) &&
      (name === undefined || status.name === name)
    if (!fits) close(server)
    return fits
  })
}

/** `7000`, `:7000`, `127.0.0.1:7000`, `[::1]:7000`, a socket's path, or the key itself as `tsunagi status` prints it. */
export function isAt(key: string, typed: string): boolean {
  const [kind, address = ''] = key.split(/ (.*)/s)
  if (key === typed || address === typed) return true
  if (kind === 'unix') return false
  const bare = address.replace(/ v6only$/, '')
  return bare === typed || (/^:?\d+$/.test(typed) && bare.endsWith(`:${typed.replace(':', '')}`))
}
