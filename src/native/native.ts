/**
 * The only typed declaration of the addon. Every function is one kernel or libuv operation, without policy.
 *
 * Errors have Node's own shape (`code`, `errno`, `syscall`); wrong arguments throw a TypeError before any system call.
 * File descriptors are plain numbers here: whoever receives one owns it until it is closed with `closeFds` or given to a handle.
 * All timeouts are milliseconds; -1 waits without end. Calls that wait block this thread: they are meant for the frozen block
 * and for the bounded look-up in `listen()`.
 */
export interface Native {
  // --- unix sockets (addon/src/unix_socket.cc)

  /** Binds a listening unix stream socket under `privatePath` (mode 0600) and renames it to `path`, so that a path never names a socket that does not listen yet. Non-blocking, CLOEXEC. */
  listenUnix(privatePath: string, path: string, backlog: number): number
  /** Connects to `path` within `timeoutMs`; the returned fd is non-blocking, CLOEXEC. Throws ECONNREFUSED for a dead owner's file, ENOENT, EACCES, ETIMEDOUT. */
  connectUnix(path: string, timeoutMs: number): number
  /** Next waiting peer of a listening unix socket, or -1 when there is none. */
  acceptUnix(fd: number): number
  /** A connected pair of unix stream sockets, non-blocking, CLOEXEC. */
  socketPair(): [number, number]
  /** SO_PEERCRED of a connected unix socket. */
  peerCredentials(fd: number): PeerCredentials
  /** SO_PEERPIDFD where the kernel has it (6.5), else pidfd_open(pid) (5.3); throws ENOSYS below. A pidfd polls readable once its process is dead. */
  peerPidfd(fd: number): number

  // --- bytes and file descriptors over a unix socket (addon/src/fd_channel.cc)

  /**
   * Writes every byte of `chunks`, with `fds` (at most 252) attached to the first byte.
   * Waits for room up to `timeoutMs` in all; ETIMEDOUT after a partial write leaves the stream unusable: close it.
   * EPIPE, ECONNRESET, ETOOMANYREFS, ENOBUFS as the kernel says. Never raises SIGPIPE. `chunks` may not be empty.
   */
  sendMessage(fd: number, chunks: readonly Uint8Array[], fds: Int32Array, timeoutMs: number): void
  /**
   * One recvmsg into `into` (from its byte 0), waiting up to `timeoutMs` for something to read.
   * `bytes` 0 means the peer closed. Received fds are CLOEXEC. Control data that did not fit (MSG_CTRUNC: this process has no fds left, or more than 253 were sent)
   * closes what did arrive and throws EMFILE. Throws ETIMEDOUT, ECONNRESET.
   */
  receiveMessage(fd: number, into: Uint8Array, timeoutMs: number): ReceivedMessage
  /** poll(2) for readability on `fds`; returns the indexes that are readable, hung up or in error; empty after `timeoutMs`. */
  pollReadable(fds: Int32Array, timeoutMs: number): number[]

  // --- file descriptors (addon/src/fds.cc)

  /** close(2) for each; never throws, EBADF included: returns how many were closed. */
  closeFds(fds: Int32Array): number
  /** F_DUPFD_CLOEXEC. */
  duplicateFd(fd: number): number
  /** Grows this process's fd table to hold at least `count` descriptors now, so that no later recvmsg waits for the kernel's RCU grace period. Caps silently at the soft RLIMIT_NOFILE. */
  growFdTable(count: number): void
  /** Soft and hard RLIMIT_NOFILE and how many descriptors are open now. */
  fdLimits(): { soft: number; hard: number; open: number }
  /** Sets the soft RLIMIT_NOFILE to the hard one. */
  raiseFdLimit(): void

  // --- watching (addon/src/watcher.cc)

  /** Calls `onReadable` on the event loop whenever `fd` is readable or hung up (level-triggered, uv_poll). Does not own the fd; close the watcher before the fd. Starts referenced. */
  watch(fd: number, onReadable: () => void): Watcher

  // --- libuv streams of this process's event loop (addon/src/streams.cc); `fds` are those of live uv_tcp_t or uv_pipe_t handles

  /** Bytes in libuv's own write queue for each fd (0 for none), in order; -1 where no stream with that fd is on this loop. Checks that the queue's sum equals write_queue_size and throws EPROTO if not. */
  writeQueueSizes(fds: Int32Array): Float64Array
  /** Exact copies of the bytes in libuv's write queue of each fd, in order, partial writes already deducted. One walk of the loop for all: call it once. EBADF where no stream with that fd is on this loop. */
  copyWriteQueues(fds: Int32Array): Uint8Array[]
  /** uv_read_stop for each: nothing more leaves the kernel for these handles. Returns how many streams were found. */
  stopReading(fds: Int32Array): number
  /** libuv unlinks `path` when the pipe handle with this fd closes: for a listener that was inherited. */
  claimPipePath(fd: number, path: string): void
  /** The inverse: closing the handle leaves the path alone. */
  disclaimPipePath(fd: number): void

  // --- verification (addon/src/verify.cc)

  /**
   * Per fd, VERIFY_COLUMNS doubles: see `VERIFY_COLUMN`. Unprivileged: getsockopt(TCP_INFO), SIOCINQ, SIOCOUTQ, SO_DOMAIN/TYPE/PROTOCOL.
   * An fd that is not a TCP socket has state -1 and zeros.
   */
  inspectTcp(fds: Int32Array): Float64Array
  /** The `identity` column alone: one system call for each. */
  identities(fds: Int32Array): Float64Array
  /** Local and peer address of a TCP socket as the kernel has them, `null` peer for a listener. */
  socketAddresses(fd: number): { local: NativeAddress; peer: NativeAddress | null; listening: boolean }

  // --- repair mode (addon/src/repair.cc, tcp_dump.cc, tcp_restore.cc); a cold restart is, in this order:
  // holdAdd, enterRepair, dumpConnections, closeFds (silent) … holdAdd, restoreConnections, holdRelease, leaveRepair

  /** TCP_REPAIR on. Per fd what `leaveRepair` must be given, or a negative errno (EPERM without CAP_NET_ADMIN). A socket in repair mode neither reads nor writes, and closes without telling its peer; it still receives: hold the packets first. */
  enterRepair(fds: Int32Array): Int32Array
  /** TCP_REPAIR off, and SO_REUSEADDR as `entered` says; those that never entered are left alone. With `probe` an established socket tells its peer at once where it is. Per fd 0 or an errno. */
  leaveRepair(fds: Int32Array, entered: Int32Array, probe: boolean): Int32Array
  /** What the kernel knows of each connection, which stays in repair mode and unchanged. One that cannot be restored has a refusal in its row. `withQueues` copies the bytes too: only under a packet hold. */
  dumpConnections(fds: Int32Array, entered: Int32Array, withQueues: boolean): ConnectionRecord
  /** Local and peer end of each, TUPLE_BYTES bytes each, as `holdAdd` takes them; zeros for what is not connected. */
  connectionTuples(fds: Int32Array): Uint8Array
  /**
   * Makes the sockets of a record again, in repair mode, under a packet hold; RESTORED_COLUMNS doubles for each row, see `RESTORED_COLUMN`. Rows with a refusal make none.
   * The fds are non-blocking, CLOEXEC. What `sent` says is in the kernel's send queue; the rest of the sent and all unsent bytes are the caller's to write after
   * `leaveRepair`, and then to end the stream where `ownFin` is 1. With `inject` the peer's FIN, or its acknowledgment of ours, is put in through a raw socket where
   * CAP_NET_RAW allows it: without, a CLOSE_WAIT socket comes back ESTABLISHED, and the caller knows that the peer's stream has ended.
   */
  restoreConnections(figures: Float64Array, tuples: Uint8Array, names: readonly string[], queues: Uint8Array, inject: boolean): Float64Array

  // --- waking peers (addon/src/wake.cc), after the release and after leaving repair mode; EPERM without CAP_NET_RAW. Both return how many packets went out

  /** One segment that tells nothing new for each row. Behind a connection tracker that does not know the connections this side must speak first, and a socket whose FIN was sent does not do so by itself. */
  announceConnections(figures: Float64Array, tuples: Uint8Array): number
  /** One ICMP message for each row that lets a peer which waits to repeat a segment do so at once (RFC 6069); each takes back one doubling of its timer. A peer that asked for IP_RECVERR sees an error. */
  kickPeers(figures: Float64Array, tuples: Uint8Array): number

  // --- packet hold (addon/src/packet_hold.cc): the nftables table `inet tsunagi` of this network namespace, which outlives the process.
  // EPERM without CAP_NET_ADMIN; EPROTONOSUPPORT, EAFNOSUPPORT, ENOTSUP where the kernel has no nftables; ENOENT before holdCreate

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

  // --- self-test (addon/src/self_test.cc)

  /** Builds a private loop and checks that libuv's public struct fields are where this binary expects them. Empty string: all is well; else what differs. */
  selfTest(): string
}

export interface PeerCredentials {
  pid: number
  uid: number
  gid: number
}

export interface ReceivedMessage {
  bytes: number
  fds: number[]
}

export interface Watcher {
  close(): void
  ref(): void
  unref(): void
}

export interface NativeAddress {
  family: 'IPv4' | 'IPv6'
  address: string
  port: number
}

/**
 * Columns of `inspectTcp`.
 * @note tcpi_bytes_received and tcpi_bytes_acked: linux/tcp.h struct tcp_info (since 4.1); SIOCINQ, SIOCOUTQ: tcp(7).
 */
export const VERIFY_COLUMN = {
  /** TCP state number of linux/tcp_states.h (1 ESTABLISHED, 8 CLOSE_WAIT, 10 LISTEN…), -1: not TCP. */
  state: 0,
  /** bytes_received − SIOCINQ: what the application has read so far; the same on both sides of a move. */
  consumed: 1,
  /** bytes_acked + SIOCOUTQ: what the application has handed to the kernel so far; the same on both sides of a move. */
  produced: 2,
  /** SIOCINQ: unread bytes in the receive queue. */
  receiveQueue: 3,
  /** SIOCOUTQ: bytes in the send queue, unacked and unsent. */
  sendQueue: 4,
  /** The kernel's own number of the socket (SO_COOKIE), the same through every descriptor in every process of this host; for comparing only. */
  identity: 5,
} as const
export const VERIFY_COLUMNS = 6

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

export interface PacketHolds {
  ports: Int32Array
  portsLeftMs: Float64Array
  tuples: Uint8Array
  tuplesLeftMs: Float64Array
}

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
  /** TCP-MD5 or TCP-AO: the kernel does not give its keys. */
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

/** What a binding must export; a test compares it with the keys of the loaded addon. */
export const NATIVE_NAMES = [
  'listenUnix',
  'connectUnix',
  'acceptUnix',
  'socketPair',
  'peerCredentials',
  'peerPidfd',
  'sendMessage',
  'receiveMessage',
  'pollReadable',
  'closeFds',
  'duplicateFd',
  'growFdTable',
  'fdLimits',
  'raiseFdLimit',
  'watch',
  'writeQueueSizes',
  'copyWriteQueues',
  'stopReading',
  'claimPipePath',
  'disclaimPipePath',
  'inspectTcp',
  'identities',
  'socketAddresses',
  'enterRepair',
  'leaveRepair',
  'dumpConnections',
  'connectionTuples',
  'restoreConnections',
  'announceConnections',
  'kickPeers',
  'holdCreate',
  'holdAdd',
  'holdRelease',
  'holdList',
  'holdRemove',
  'selfTest',
] as const satisfies readonly (keyof Native)[]
