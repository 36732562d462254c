import type { Bequest } from './holder.js'

/** Everything that what was left is asked for by: addresses of servers and of UDP sockets, and the slot of a cluster worker. */
export function keysOf({ listeners, shared, slot, datagrams }: Bequest): string[] {
  return [...listeners.map(({ key }) => key), ...shared, ...datagrams, ...(slot ? [slot] : [])]
}
