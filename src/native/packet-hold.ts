/**
 * The packet hold (addon/src/packet_hold.cc): the nftables table `inet tsunagi` of this network namespace, which outlives the process.
 * EPERM without CAP_NET_ADMIN; EPROTONOSUPPORT, EAFNOSUPPORT, ENOTSUP where the kernel has no nftables; ENOENT before holdCreate.
 */
export interface PacketHoldNative {
  /** Makes the table, empty; false when it is there already. */
  holdCreate(): boolean
  /** From now on, and for `timeoutMs` at most, no TCP packet of these local ports and of these connections (`connectionTuples`) comes in or goes out. Again: the time starts anew. */
  holdAdd(ports: Int32Array, tuples: Uint8Array, timeoutMs: number): void
  /** Ends the hold of exactly these; how many of them were still held. */
  holdRelease(ports: Int32Array, tuples: Uint8Array): number
  /** All that is held, by any process, and for how long still. */
  holdList(): PacketHolds
  /** Deletes the table with all that is in it; false when there is none. */
  holdRemove(): boolean
}

export interface PacketHolds {
  ports: Int32Array
  portsLeftMs: Float64Array
  tuples: Uint8Array
  tuplesLeftMs: Float64Array
}
