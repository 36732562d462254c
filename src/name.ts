import type { AttachedServer } from './attached-server.js'
import { connectPeer } from './channel/peer.js'
import { controlDirectory, controlSocketPath, isSameFamily } from './channel/rendezvous.js'
import type { Env } from './env.js'

/**
 * A name by which a process is found where its address is another than its successor's: blue and green on two ports. It only adds a way to meet;
 * where the address is taken, the address decides. The listener does not move then. The servers of both are paired in the order in which they were
 * made, and only where both have as many: what came over the wrong server's connections would reach the wrong code.
 */

/** What the successor asks for: the server in this place, of so many. Its inverse is `serverInPlace`. */
export function placeInName(name: string, servers: Iterable<AttachedServer>, attached: AttachedServer): string {
  const all = withPorts(servers)
  return `${name} ${all.indexOf(attached) + 1}/${all.length}`
}

export function serverInPlace(name: string | undefined, servers: Iterable<AttachedServer>, place: string): AttachedServer | undefined {
  if (name === undefined) return undefined
  const all = withPorts(servers)
  return all.find((attached) => placeInName(name, all, attached) === place)
}

/** Whether a parent or child goes by this name: a helper that inherits its parent's environment is not the next version. */
export function isNameOfRelative({ native, environment }: Env, name: string): boolean {
  try {
    const peer = connectPeer(native, controlSocketPath(controlDirectory(environment), name), CONNECT_MS)
    const { pid } = peer.credentials
    peer.channel.close()
    peer.closePidfd()
    return isSameFamily(pid, process.pid)
  } catch {
    return false // nobody's, or a dead process's
  }
}

/** A path is not a port that changes, and one that nobody takes over would be left behind. */
function withPorts(servers: Iterable<AttachedServer>): AttachedServer[] {
  return [...servers].filter(({ key, path, isShared }) => key !== '' && path === '' && !isShared)
}

const CONNECT_MS = 1_000
