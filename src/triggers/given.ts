import { fstatSync, readFileSync } from 'node:fs'
import { addressKey, type ListeningAddress } from '../channel/rendezvous.js'
import type { Native } from '../native/native.js'

/**
 * Descriptors that systemd has started this process with: those of its `.socket` units, and what a process of this service has left in its store. Those
 * that bear our names are ours; of the others only listeners are taken, when the application listens on their address.
 *
 * @note sd_listen_fds(3): LISTEN_FDS of them from 3 on, for the process LISTEN_PID alone, with names in LISTEN_FDNAMES. Names may repeat.
 */
export class GivenDescriptors {
  readonly #native: Native
  readonly #left: { name: string; fd: number }[]

  constructor(native: Native, environment: NodeJS.ProcessEnv) {
    this.#native = native
    const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES = '' } = environment
    const count = LISTEN_PID === String(process.pid) ? Number(LISTEN_FDS) || 0 : 0
    const names = LISTEN_FDNAMES.split(':')
    this.#left = Array.from({ length: count }, (_, i) => ({ name: names[i] ?? '', fd: FIRST_FD + i }))
  }

  /** The descriptor of this name, which the caller then owns. */
  take(name: string): number | undefined {
    const at = this.#left.findIndex((given) => given.name === name)
    return at < 0 ? undefined : this.#left.splice(at, 1)[0]?.fd
  }

  has(name: string): boolean {
    return this.#left.some((given) => given.name === name)
  }

  /** The listener on this address, which the caller then owns. */
  takeListener(key: string): number | undefined {
    const ours = this.take(listenerName(key))
    if (ours !== undefined) return ours
    const at = this.#left.findIndex(({ name, fd }) => !name.startsWith(OURS) && isSameAddress(this.#keyOf(fd), key))
    return at < 0 ? undefined : this.#left.splice(at, 1)[0]?.fd
  }

  /** What bears our names and nobody has taken: it is of no use to anybody any more. The caller owns it. */
  takeUnclaimed(): { name: string; fd: number }[] {
    const unclaimed = this.#left.filter(({ name }) => name.startsWith(OURS))
    for (const given of unclaimed) this.#left.splice(this.#left.indexOf(given), 1)
    return unclaimed
  }

  #keyOf(fd: number): string | undefined {
    try {
      const { local, listening } = this.#native.socketAddresses(fd)
      return listening ? addressKey({ ...local, ipv6Only: false }) : undefined
    } catch {
      const path = pathOf(fd)
      return path === undefined ? undefined : addressKey({ family: 'unix', address: path } satisfies ListeningAddress)
    }
  }
}

/** Descriptors that belong to this library in systemd's store. */
export const OURS = 'tsunagi-'

/** @note sd_pid_notify_with_fds(3): a name is ASCII without ":" and has at most 255 characters. */
export function listenerName(key: string): string {
  return `${OURS}listener-${Buffer.from(key).toString('base64url')}`.slice(0, 255)
}

/** systemd does not tell an IPv6 listener that takes IPv4 as well from one that does not. */
function isSameAddress(given: string | undefined, key: string): boolean {
  return given !== undefined && given === key.replace(/ v6only$/, '')
}

/** @note proc_net(5): the socket's inode is the seventh field of /proc/net/unix, the path follows; abstract names begin with @. */
function pathOf(fd: number): string | undefined {
  const { ino } = fstatSync(fd)
  const line = readFileSync('/proc/net/unix', 'utf8')
    .split('\n')
    .find((each) => each.trim().split(/\s+/)[6] === String(ino))
  return line?.trim().split(/\s+/).slice(7).join(' ') || undefined
}

/** @note SD_LISTEN_FDS_START */
const FIRST_FD = 3
