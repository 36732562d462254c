import type { Native } from '../native/native.js'
import { TUPLE_BYTES } from '../native/repair.js'
import { listenersOn } from './held-packets.js'

/**
 * Local ports of the listeners, as wholes, so that who connects meanwhile is not refused but tries again by itself. Not one on which others listen too:
 * their connections would be held as well.
 */
export function ownPorts(native: Native, listeners: Int32Array): Int32Array {
  const own = new Map<number, number>()
  for (const port of portsOf(native, listeners)) own.set(port, (own.get(port) ?? 0) + 1)
  return Int32Array.from([...own].filter(([port, count]) => listenersOn(port) <= count).map(([port]) => port))
}

/** The two ends of connections that no held port covers, as those of a proxy to its upstream. */
export function tuplesBeside(native: Native, ports: Int32Array, fds: Int32Array): Uint8Array {
  const tuples = native.connectionTuples(fds)
  const single: Uint8Array[] = []
  for (let at = 0; at < tuples.length; at += TUPLE_BYTES) {
    const tuple = tuples.subarray(at, at + TUPLE_BYTES)
    if (!ports.includes(localPort(tuple))) single.push(tuple)
  }
  return Buffer.concat(single)
}

function portsOf(native: Native, listeners: Int32Array): number[] {
  const ports: number[] = []
  for (const fd of listeners) {
    try {
      ports.push(native.socketAddresses(fd).local.port)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAFNOSUPPORT') throw error // a path has no port
    }
  }
  return ports
}

/** Behind the local address, in network order; 0 for what is not connected. */
function localPort(tuple: Uint8Array): number {
  return ((tuple[16] as number) << 8) | (tuple[17] as number)
}
