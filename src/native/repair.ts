/**
 * Repair mode of TCP sockets, connections as data and back (addon/src/repair.cc, tcp_dump.cc, tcp_restore.cc). A cold restart is, in this order:
 * holdAdd, enterRepair, dumpConnections, closeFds (silent) … holdAdd, restoreConnections, holdRelease, leaveRepair.
 */
export interface RepairNative {
  /** TCP_REPAIR on. Per fd what `leaveRepair` must be given, or a negative errno (EPERM without CAP_NET_ADMIN). A socket in repair mode neither reads nor writes, and closes without telling its peer; it still receives: hold the packets first. */
  enterRepair(fds: Int32Array): Int32Array
  /** TCP_REPAIR off, and SO_REUSEADDR as `entered` says; those that never entered are left alone. With `probe` an established socket tells its peer at once where it is. Per fd 0 or an errno. */
  leaveRepair(fds: Int32Array, entered: Int32Array, probe: boolean): Int32Array
  /** What the kernel knows of each connection, which stays in repair mode and unchanged. One that cannot be restored has a refusal in its row. `withQueues` copies the bytes too: only under a packet hold. */
  dumpConnections(fds: Int32Array, entered: Int32Array, withQueues: boolean): ConnectionRecord
  /**
   * What `dumpConnections` reads but for the queues, of connections that go on meanwhile: each enters repair mode and leaves it again within the call, and
   * its peer gets nothing of it. sendSequence is NaN where something is unsent: selecting the send queue then would lose segments. EPERM as in `enterRepair`.
   */
  glimpseConnections(fds: Int32Array): ConnectionRecord
  /** Local and peer end of each, TUPLE_BYTES bytes each, as `holdAdd` takes them; zeros for what is not connected. */
  connectionTuples(fds: Int32Array): Uint8Array
  /**
   * Makes the sockets of a record again, in repair mode, under a packet hold; RESTORED_COLUMNS doubles for each row, see `RESTORED_COLUMN`. Rows with a refusal make none.
   * The fds are non-blocking, CLOEXEC. What `sent` says is in the kernel's send queue; the rest of the sent and all unsent bytes are the caller's to write after
   * `leaveRepair`, and then to end the stream where `ownFin` is 1. With `inject` the peer's FIN, or its acknowledgment of ours, is put in through a raw socket where
   * CAP_NET_RAW allows it: without, a CLOSE_WAIT socket comes back ESTABLISHED, and the caller knows that the peer's stream has ended.
   */
  restoreConnections(figures: Float64Array, tuples: Uint8Array, names: readonly string[], queues: Uint8Array, inject: boolean): Float64Array
  /** TCP sockets of no address, non-blocking, CLOEXEC, for `restoreInto`; families as the column `family` has them. −1 for any other number, and without room for more. */
  makeTcpSockets(families: Int32Array): Int32Array
  /**
   * `restoreConnections` without injection, into sockets of `makeTcpSockets` that somebody who may has put into repair mode: itself it needs no privilege. Owns the fds. One
   * whose receive queue does not fit fails with the step receive-queue.
   */
  restoreInto(figures: Float64Array, tuples: Uint8Array, names: readonly string[], queues: Uint8Array, fds: Int32Array): Float64Array

  // --- waking peers (addon/src/wake.cc), after the release and after leaving repair mode; EPERM without CAP_NET_RAW. Both return how many packets went out

  /** One segment that tells nothing new for each row. Behind a connection tracker that does not know the connections this side must speak first, and a socket whose FIN was sent does not do so by itself. */
  announceConnections(figures: Float64Array, tuples: Uint8Array): number
  /** One ICMP message for each row that lets a peer which waits to repeat a segment do so at once (RFC 6069); each takes back one doubling of its timer. A peer that asked for IP_RECVERR sees an error. */
  kickPeers(figures: Float64Array, tuples: Uint8Array): number
}

/** Connections as data, in the order of the fds they were dumped from. */
export interface ConnectionRecord {
  /** CONNECTION_COLUMNS doubles for each: see `CONNECTION_COLUMN`. */
  figures: Float64Array
  /** TUPLE_BYTES bytes for each: local address, port, peer address, port; IPv4 addresses in mapped form. */
  tuples: Uint8Array
  /** What the columns congestion, device and scope index. */
  names: string[]
  /** For each, one behind the other: its receive queue, what it sent and is not acknowledged, what it has not sent. */
  queues: Uint8Array
}

export const TUPLE_BYTES = 36

/**
 * Columns of `dumpConnections`; NaN where the kernel does not tell. Only appended to.
 * @note linux/tcp.h: TCP_QUEUE_SEQ, TCP_REPAIR_WINDOW (struct tcp_repair_window), TCP_TIMESTAMP, struct tcp_info.
 */
export const CONNECTION_COLUMN = {
  /** Place in CONNECTION_REFUSALS. */
  refusal: 0,
  /** Of the refusals call-failed and not-in-repair. */
  errno: 1,
  /** As VERIFY_COLUMN has it: 1 ESTABLISHED, 4 FIN_WAIT1, 5 FIN_WAIT2, 8 CLOSE_WAIT. */
  state: 2,
  /** Of the socket, as the kernel numbers it: 2 IPv4, 10 IPv6, the latter also where the addresses are mapped. */
  family: 3,
  /** rcv_nxt: the peer's next sequence number, its FIN counted. */
  receiveSequence: 4,
  /** write_seq: the number after the last byte in the send queue, our FIN counted. */
  sendSequence: 5,
  /** Bytes; no FIN is counted here and in the next two. */
  receiveQueue: 6,
  sent: 7,
  unsent: 8,
  /** 0 the application has not ended its stream, 1 the FIN waits behind unsent bytes, 2 it was sent. */
  ownFin: 9,
  /** 1: the peer has ended its stream. */
  peerFin: 10,
  mss: 11,
  /** −1: window scaling was not negotiated. */
  sendScale: 12,
  receiveScale: 13,
  sack: 14,
  timestamps: 15,
  timestamp: 16,
  /** Length of struct tcp_repair_window in the kernel that dumped; its words follow. */
  windowBytes: 17,
  window: 18,
  /** As the kernel has it: twice what is set. */
  sendBuffer: 26,
  receiveBuffer: 27,
  /** SO_BUF_LOCK: 1 the send buffer, 2 the receive buffer was set by the application; otherwise the kernel adapts it. */
  bufferLock: 28,
  /** As `enterRepair` gave it, for `leaveRepair` of the restored socket. */
  reuseAddress: 29,
  /** Places in `names`, or −1. */
  congestion: 30,
  device: 31,
  scope: 32,
  /** Seconds, −1: off. */
  linger: 33,
  keepAlive: 34,
  /** Only where keep-alive is on. */
  keepAliveIdle: 35,
  keepAliveInterval: 36,
  keepAliveCount: 37,
  noDelay: 38,
  userTimeout: 39,
  priority: 40,
  mark: 41,
  tos: 42,
  ttl: 43,
  trafficClass: 44,
  hopLimit: 45,
} as const
export const CONNECTION_COLUMNS = 46

/** Why a connection cannot be restored elsewhere. Only appended to. */
export const CONNECTION_REFUSALS = [
  'none',
  'not-tcp',
  'mptcp',
  /** TCP_ULP: kernel TLS. */
  'upper-layer',
  /** TCP-MD5 or TCP-AO: the key cannot be given to another socket. The kernel tells of TCP-MD5 only to whom has CAP_NET_ADMIN. */
  'authenticated',
  /** MSG_ZEROCOPY: pages of the queue still belong to the application. */
  'zero-copy',
  'urgent-data',
  /** A state of TCP other than the four that can be restored. */
  'state',
  /** SO_PEEK_OFF is set. */
  'peek-offset',
  /** An error, or an entry in the error queue, that the application has not seen. */
  'socket-error',
  'not-in-repair',
  'call-failed',
  /** The queues changed while they were copied: the packets were not held. */
  'queue-moved',
] as const

/** Columns of `restoreConnections`. */
export const RESTORED_COLUMN = {
  /** −1: none was made; `errno` and `step` say why, both 0 for a row with a refusal. */
  fd: 0,
  errno: 1,
  /** Place in RESTORE_STEPS. */
  step: 2,
  /** The state it is in now. CLOSE_WAIT and FIN_WAIT2 need injection: without it they are ESTABLISHED and FIN_WAIT1. */
  state: 3,
  /** All of the record's receive queue, or 0: the buffer could not be made large enough, and the bytes are the caller's to deliver first. */
  receiveQueue: 4,
  /** How many of the record's sent bytes are in the send queue. */
  sent: 5,
  /** How many socket options this kernel, or this namespace, refused. */
  optionsRefused: 6,
} as const
export const RESTORED_COLUMNS = 7

/** What failed. Only appended to. */
export const RESTORE_STEPS = [
  'none',
  'socket',
  'enter-repair',
  'bind',
  'sequence',
  'connect',
  'negotiated',
  'timestamp',
  'receive-queue',
  'send-queue',
  'shutdown',
  'window',
  'last',
] as const
