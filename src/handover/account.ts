import type { Socket } from 'node:net'
import { bytesThrough, trace, traceOf } from '../native/net-internals.js'

/** Bytes of one connection that its application has read from the kernel and handed to it, since it was accepted. */
export interface Account {
  readonly consumed: number
  readonly produced: number
}

/**
 * What this process knows of a connection without asking the kernel: Node's own counters, and for one that came from a predecessor what was
 * counted until then. The successor compares it with what the kernel says; the two come from different sources, so nothing can agree by mistake.
 */
export function accountOf(socket: Socket): Account {
  const { read, written } = bytesThrough(socket)
  const before = traceOf(socket)
  return before ? { consumed: before.consumed + read, produced: before.produced + written } : { consumed: read, produced: written }
}

/** A connection begins here with what it had in another handle. */
export function openAccount(socket: Socket, { consumed, produced }: Account): void {
  const noted = traceOf(socket)
  if (noted) {
    noted.consumed = consumed
    noted.produced = produced
  } else trace(socket, { resumed: false, consumed, produced })
}
