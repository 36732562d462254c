import { closeSync, openSync, readSync } from 'node:fs'
import type { RepairPowers } from '../native/repair-powers.js'

/** What of the network is kept away while no socket exists: local ports as a whole, single connections by their two ends. */
export interface HeldPackets {
  readonly ports: Int32Array
  /** TUPLE_BYTES for each connection. */
  readonly tuples: Uint8Array
}

/** From now on, and for `holdMs` at most: nothing comes in, nothing goes out. Again: the time starts anew. Makes the table where there is none. */
export function holdPackets(powers: RepairPowers, { ports, tuples }: HeldPackets, holdMs: number): void {
  powers.holdCreate()
  powers.holdAdd(ports, tuples, holdMs)
}

/** The inverse; nothing happens where nothing of it is held any more. */
export function releasePackets(powers: RepairPowers, { ports, tuples }: HeldPackets): void {
  powers.holdRelease(ports, tuples)
}

/**
 * How many sockets of this network namespace listen on a port, whoever has them. A hold of the port would cut off the connections of all.
 * @note proc_pid_net(5) of tcp and tcp6: local address, then the state in two hexadecimal digits; listeners (0A) come before connections.
 */
export function listenersOn(port: number): number {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  let count = 0
  for (const table of ['/proc/self/net/tcp', '/proc/self/net/tcp6']) {
    for (const line of listeningLines(table)) if (line.trim().split(/\s+/)[1]?.endsWith(suffix)) count++
  }
  return count
}

/** Stops where the listeners end: the connections behind them may be many thousands. */
function* listeningLines(table: string): Iterable<string> {
  let fd: number
  try {
    fd = openSync(table, 'r')
  } catch {
    return // no IPv6 here, or no /proc
  }
  try {
    const buffer = Buffer.alloc(16 * 1024)
    let rest = ''
    for (let bytes = readSync(fd, buffer); bytes > 0; bytes = readSync(fd, buffer)) {
      const lines = (rest + buffer.toString('latin1', 0, bytes)).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) {
        const state = line.trim().split(/\s+/)[3]
        if (state === 'st') continue // the heading
        if (state !== LISTEN) return
        yield line
      }
    }
  } finally {
    closeSync(fd)
  }
}

const LISTEN = '0A'
