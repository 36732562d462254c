import { createHash } from 'node:crypto'
import { lstatSync, mkdirSync, readFileSync, readlinkSync, type Stats } from 'node:fs'
import { join } from 'node:path'
import { TsunagiError } from '../errors.js'

/**
 * Where two processes meet: one unix socket file per listening address and network namespace, in one directory by one rule.
 * The names are hashes, since a socket path has 108 bytes (unix(7)).
 */

/** A listening address as the kernel has it. `dual` is an IPv6 wildcard that takes IPv4 as well. */
export interface ListeningAddress {
  family: 'IPv4' | 'IPv6'
  address: string
  port: number
  ipv6Only: boolean
}

/** The name of an address in messages and reports, such as `tcp6 [::]:7000` or `tcp4 127.0.0.1:7000`. */
export function addressKey({ family, address, port, ipv6Only }: ListeningAddress): string {
  return family === 'IPv4' ? `tcp4 ${address}:${port}` : `tcp6 [${address}]:${port}${ipv6Only ? ' v6only' : ''}`
}

/** Path of the control socket that belongs to an address key in this network namespace. */
export function controlSocketPath(directory: string, key: string): string {
  const hash = createHash('sha256').update(`${networkNamespace()}\0${key}`).digest('base64url')
  return join(directory, `${hash.slice(0, 32)}.sock`)
}

/**
 * The directory for control sockets, made if it is not there: `TSUNAGI_DIR`, else /run/user/UID if ours, for root /run/tsunagi, else /tmp/tsunagi-UID.
 * Throws ERR_TSUNAGI_DIRECTORY if it is a symbolic link, belongs to someone else or is open to others: sockets are only given away inside it.
 */
export function controlDirectory(environment: NodeJS.ProcessEnv = process.env): string {
  const uid = process.geteuid?.() ?? 0
  const directory = environment['TSUNAGI_DIR'] || defaultDirectory(uid)
  try {
    mkdirSync(directory, { mode: 0o700 })
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') {
      throw new TsunagiError(
        'ERR_TSUNAGI_DIRECTORY',
        `The directory for control sockets, ${directory}, could not be made. Set TSUNAGI_DIR to a directory whose parent exists and is writable.`,
        { phase: 'negotiate', cause },
      )
    }
  }
  const flaw = directoryFlaw(lstatSync(directory), uid)
  if (flaw) {
    throw new TsunagiError(
      'ERR_TSUNAGI_DIRECTORY',
      `The directory for control sockets, ${directory}, ${flaw}. Remove it, or set TSUNAGI_DIR to a directory of your own with mode 0700.`,
      { phase: 'negotiate' },
    )
  }
  return directory
}

function defaultDirectory(uid: number): string {
  const runtime = `/run/user/${uid}`
  if (isOwnDirectory(runtime, uid)) return join(runtime, 'tsunagi')
  if (uid === 0 && isOwnDirectory('/run', 0)) return '/run/tsunagi'
  return `/tmp/tsunagi-${uid}`
}

function isOwnDirectory(path: string, uid: number): boolean {
  const stats = lstatSync(path, { throwIfNoEntry: false })
  return stats?.isDirectory() === true && stats.uid === uid
}

function directoryFlaw(stats: Stats, uid: number): string | undefined {
  if (stats.isSymbolicLink()) return 'is a symbolic link'
  if (!stats.isDirectory()) return 'is not a directory'
  if (stats.uid !== uid) return `belongs to uid ${stats.uid}, not to ${uid}`
  if ((stats.mode & 0o077) !== 0) return `is open to others (mode ${(stats.mode & 0o777).toString(8)})`
  return undefined
}

/** @note /proc/self/ns/net reads like `net:[4026531840]` (namespaces(7)). */
function networkNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/net')
  } catch {
    return 'net:[unknown]' // no /proc: the address alone must do
  }
}

/** Whether one of two processes is an ancestor of the other: those never hand over by address (P9), a forked child is not a new version. */
export function isSameFamily(a: number, b: number): boolean {
  return isAncestor(a, b) || isAncestor(b, a)
}

function isAncestor(ancestor: number, pid: number): boolean {
  for (let at = pid; at > 1; ) {
    const parent = parentOf(at)
    if (parent === ancestor) return true
    if (parent === undefined) return false
    at = parent
  }
  return false
}

/** @note proc_pid_stat(5): the command name is in parentheses and may hold any character; ppid is the second field after the last one. */
function parentOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
  } catch {
    return undefined // it has just died, or lives in another pid namespace
  }
}
