import type { PacketHoldNative } from './packet-hold.js'
import type { RepairNative } from './repair.js'

/**
 * The only typed declaration of the addon. Every function is one kernel or libuv operation, without policy.
 *
 * Errors have Node's own shape (`code`, `errno`, `syscall`); wrong arguments throw a TypeError before any system call.
 * File descriptors are plain numbers here: whoever receives one owns it until it is closed with `closeFds` or given to a handle.
 * All timeouts are milliseconds; -1 waits without end. Calls that wait block this thread: they are meant for the frozen block
 * and for the bounded look-up in `listen()`.
 */
export interface Native extends RepairNative, PacketHoldNative {
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
  /**
   * Copies of all descriptors that lie in the queue of a unix stream socket, in their order; the queue stays as it is, and can be looked at again. Each message has
   * one byte. Throws EMFILE where this process has none left, and has kept none then. @note SO_PEEK_OFF, socket(7).
   */
  peekFds(fd: number): number[]
  /** poll(2) for readability on `fds`; returns the indexes that are readable, hung up or in error; empty after `timeoutMs`. */
  pollReadable(fds: Int32Array, timeoutMs: number): number[]

  // --- file descriptors (addon/src/fds.cc)

  /** close(2) for each; never throws, EBADF included: returns how many were closed. */
  closeFds(fds: Int32Array): number
  /** F_DUPFD_CLOEXEC. */
  duplicateFd(fd: number): number
  /** No client begins a handshake on this TCP listener any more; those under way are finished. */
  dropSyns(fd: number): void
  /** Grows this process's fd table to hold at least `count` descriptors now, so that no later recvmsg waits for the kernel's RCU grace period. Caps silently at the soft RLIMIT_NOFILE. */
  growFdTable(count: number): void
  /** Ends TCP connections as politely as the kernel can: what nobody has read is thrown away, since closing with it would be a reset, then FIN. The fds stay open. */
  endConnections(fds: Int32Array): void
  /** shutdown(2) in both directions: the connection, or the listener, is over although other processes have descriptors of it. Never throws. */
  shutDownSockets(fds: Int32Array): void
  /** Ends connections by RST, although other processes have descriptors of them. Never throws. */
  resetConnections(fds: Int32Array): void
  /** Soft and hard RLIMIT_NOFILE and how many descriptors are open now. */
  fdLimits(): { soft: number; hard: number; open: number }
  /** Sets the soft RLIMIT_NOFILE to the hard one. */
  raiseFdLimit(): void

  // --- a service manager (addon/src/notify.cc)

  /** One message to the notify socket at `path` (sd_notify(3); a leading `@` is an abstract name), with at most 252 descriptors. Nobody answers. ECONNREFUSED, ENOENT; EAGAIN after 2 s. */
  notify(path: string, text: string, fds: Int32Array): void
  /** A memory file that holds `content` and can never be changed. */
  sealedMemory(content: Uint8Array): number

  // --- memory that outlives this process (addon/src/shared_memory.cc)

  /** A memory file of that many bytes, all zero, and its content: what is written there, whoever has the descriptor reads, also when this process is dead. */
  sharedMemory(bytes: number): { fd: number; memory: ArrayBuffer }

  // --- processes (addon/src/process.cc)

  /** Takes note of the end of a child, so that it is no zombie any more; false where it has not ended, or is none of ours. Not for what libuv has started. */
  reap(pid: number): boolean
  /** execve(2): this process becomes another program, with the same number, and of its descriptors only 0 to 2 and those of `kept`. Throws where it cannot; otherwise it does not return. `environment` has `NAME=value`. */
  execute(file: string, args: readonly string[], environment: readonly string[], kept: Int32Array): never

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

  // --- nghttp2 (addon/src/http2.cc)

  /**
   * Has a server's HTTP/2 session say that it is about to shut down: GOAWAY with the highest stream id, which refuses nothing and of which nghttp2 knows.
   * It is sent with what the session sends next. `handle` is the session's own object under Node's; `figures` are its next and last stream id and what may be received and
   * sent on the whole of it: nghttp2 has to say the same of the session that was found. False where none was found, or this Node has no such nghttp2.
   */
  shutdownNotice(handle: object, figures: Float64Array): boolean

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

  // --- keeper (addon/src/keeper.cc; the program itself is addon/keeper)

  /** Starts a program from memory, with the other end of the returned unix socket as its descriptor 3, /dev/null as 0 to 2, and nothing else of ours; it is nobody's child. EACCES where memory may not be executed (vm.memfd_noexec). */
  startKeeper(program: Uint8Array): number

  // --- self-test (addon/src/self_test.cc)

  /** Builds a private loop and checks that libuv's public struct fields are where this binary expects them. Empty string: all is well; else what differs. */
  selfTest(): string
  /** Whether this is the thread that the process began with, which runs Node's main thread; the others are workers. */
  isMainThread(): boolean
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
  'peekFds',
  'pollReadable',
  'closeFds',
  'duplicateFd',
  'dropSyns',
  'growFdTable',
  'endConnections',
  'shutDownSockets',
  'resetConnections',
  'fdLimits',
  'raiseFdLimit',
  'notify',
  'sealedMemory',
  'sharedMemory',
  'reap',
  'execute',
  'watch',
  'writeQueueSizes',
  'copyWriteQueues',
  'stopReading',
  'claimPipePath',
  'disclaimPipePath',
  'shutdownNotice',
  'inspectTcp',
  'identities',
  'socketAddresses',
  'makeTcpSockets',
  'enterRepair',
  'leaveRepair',
  'dumpConnections',
  'glimpseConnections',
  'connectionTuples',
  'restoreConnections',
  'restoreInto',
  'announceConnections',
  'kickPeers',
  'holdCreate',
  'holdAdd',
  'holdRelease',
  'holdList',
  'holdRemove',
  'startKeeper',
  'selfTest',
  'isMainThread',
] as const satisfies readonly (keyof Native)[]
