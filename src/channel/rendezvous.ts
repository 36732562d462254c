import { accessSync, constants, lstatSync, mkdirSync, readFileSync, readlinkSync, type Stats } from 'node:fs'
import { dirname, join } from 'node:path'
import { TsunagiError } from '../errors.js'

/**
 * Where two processes meet: one unix socket file per listening address and network namespace, in one directory by one rule.
 * The names are hashes, since a socket path has 108 bytes (unix(7)).
 */

/** A listening address as the kernel has it. An IPv6 wildcard that is not `ipv6Only` takes IPv4 as well; a unix address is an absolute path, or an abstract name. */
export type ListeningAddress =
  | { family: 'IPv4' | 'IPv6'; address: string; port: number; ipv6Only: boolean }
  | { family: 'unix'; address: string }

/** The name of an address in messages and reports, such as `tcp6 [::]:7000`, `tcp4 127.0.0.1:7000` or `unix /run/app.sock`. */
export function addressKey(at: ListeningAddress): string {
  if (at.family === 'unix') return `unix ${at.address.replace(/^\0/, '@')}`
  return at.family === 'IPv4' ? `tcp4 ${at.address}:${at.port}` : `tcp6 [${at.address}]:${at.port}${at.ipv6Only ? ' v6only' : ''}`
}

/** The same for a bound UDP socket, such as `udp4 0.0.0.0:5353`. */
export function datagramKey(family: 'IPv4' | 'IPv6', address: string, port: number, ipv6Only: boolean): string {
  return addressKey({ family, address, port, ipv6Only }).replace('tcp', 'udp')
}

/** Of the name that a process is found by where its address is another (src/name.ts); `undefined`: it has none. */
export function nameKey(environment: NodeJS.ProcessEnv): string | undefined {
  const name = environment['TSUNAGI_NAME']
  return name ? `name ${name}` : undefined
}

/** Path of the control socket that belongs to an address key in this network namespace. */
export function controlSocketPath(directory: string, key: string): string {
  return join(directory, `${addressName(key)}.sock`)
}

/** The name of files that belong to an address in this network namespace, without what they end in. */
export function addressName(key: string): string {
  return fingerprint(`${networkNamespace()}\0${key}`)
}

/**
 * FNV-1a over UTF-8, 32 bits from the front and 32 from the back. It only has to be short and alike in both processes, whose hello names the
 * address itself: node:crypto would cost every start 3 ms.
 */
function fingerprint(text: string): string {
  const bytes = Buffer.from(text)
  const fnv = (input: Uint8Array) => input.reduce((hash, byte) => Math.imul(hash ^ byte, 0x01000193), 0x811c9dc5 | 0) >>> 0
  return [bytes, bytes.toReversed()].map((input) => fnv(input).toString(16).padStart(8, '0')).join('')
}

/**
 * The directory for control sockets, made if it is not there: `TSUNAGI_DIR`, else /run/user/UID if ours, for root /run/tsunagi, else /tmp/tsunagi-UID.
 * Where that is read-only, as under systemd's ProtectSystem=strict, and RuntimeDirectory= has made one, inside that: `$RUNTIME_DIRECTORY/tsunagi`.
 * Throws ERR_TSUNAGI_DIRECTORY if it is a symbolic link, belongs to someone else or is open to others: sockets are only given away inside it.
 */
export function controlDirectory(environment: NodeJS.ProcessEnv = process.env): string {
  const uid = process.geteuid?.() ?? 0
  const directory = environment['TSUNAGI_DIR'] || defaultDirectory(environment, uid)
  try {
    mkdirSync(directory, { mode: 0o700 })
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') {
      throw new TsunagiError(
        'ERR_TSUNAGI_DIRECTORY',
        `The directory for control sockets, ${directory}, could not be made. Set TSUNAGI_DIR to a directory whose parent exists and is writable; in a unit of systemd RuntimeDirectory= makes one.`,
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

function defaultDirectory(environment: NodeJS.ProcessEnv, uid: number): string {
  const usual = usualDirectory(uid)
  const [runtime] = (environment['RUNTIME_DIRECTORY'] ?? '').split(':')
  return runtime && !isWritable(dirname(usual)) ? join(runtime, 'tsunagi') : usual
}

function usualDirectory(uid: number): string {
  const runtime = `/run/user/${uid}`
  if (isOwnDirectory(runtime, uid)) return join(runtime, 'tsunagi')
  if (uid === 0 && isOwnDirectory('/run', 0)) return '/run/tsunagi'
  return `/tmp/tsunagi-${uid}`
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK)
    return true
  } catch {
    return false
  }
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
export function networkNamespace(): string {
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

/** When a process was started, in the kernel's ticks since boot. @note proc_pid_stat(5): the 20th field after the command name. */
export function startOf(pid: number): number | undefined {
  return statusField(pid, 19)
}

/** Whether two processes were started by the same one, as the workers of a cluster are. */
export function areSiblings(a: number, b: number): boolean {
  const parent = parentOf(a)
  return parent !== undefined && parent === parentOf(b)
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
export function parentOf(pid: number): number | undefined {
  return statusField(pid, 1)
}

function statusField(pid: number, field: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[field])
  } catch {
    return undefined // it has just died, or lives in another pid namespace
  }
}
