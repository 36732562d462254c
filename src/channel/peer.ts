import { isAlive } from '../handover/is-alive.js'
import type { Native, PeerCredentials } from '../native/native.js'
import { Channel, type Transport } from './channel.js'

/** A process at the other end of a control socket, as the kernel describes it. */
export interface Peer {
  channel: Channel
  credentials: PeerCredentials
  /** Polls readable once the peer is dead; -1 where the kernel has no pidfds. */
  readonly pidfd: number
  closePidfd(): void
  /** Whether it is dead for certain, waiting up to `timeoutMs` for it to become so. Blocks. */
  provesDeath(timeoutMs: number): boolean
}

/** Connects to the control socket at `path`. Throws with the system's code (ENOENT, ECONNREFUSED for a dead process's file). */
export function connectPeer(native: Native, path: string, timeoutMs: number): Peer {
  return peerOf(native, native.connectUnix(path, timeoutMs))
}

/** Wraps a connected unix socket; owns `fd` from here. */
export function peerOf(native: Native, fd: number): Peer {
  try {
    const credentials = native.peerCredentials(fd)
    let pidfd = pidfdOf(native, fd)
    return {
      channel: new Channel(unixTransport(native, fd)),
      credentials,
      get pidfd() {
        return pidfd
      },
      provesDeath: (timeoutMs) =>
        pidfd >= 0 ? native.pollReadable(Int32Array.of(pidfd), timeoutMs).length > 0 : diesWithin(native, credentials.pid, timeoutMs),
      closePidfd() {
        if (pidfd >= 0) native.closeFds(Int32Array.of(pidfd))
        pidfd = -1
      },
    }
  } catch (error) {
    native.closeFds(Int32Array.of(fd))
    throw error
  }
}

function diesWithin(native: Native, pid: number, timeoutMs: number): boolean {
  const end = performance.now() + timeoutMs
  while (isAlive(pid)) {
    if (performance.now() >= end) return false
    native.pollReadable(new Int32Array(), 10)
  }
  return true
}

function pidfdOf(native: Native, fd: number): number {
  try {
    return native.peerPidfd(fd)
  } catch (error) {
    // ESRCH: already dead, which the channel tells as well. ENOSYS: before Linux 5.3.
    if (['ENOSYS', 'ESRCH', 'EINVAL'].includes((error as NodeJS.ErrnoException).code ?? '')) return -1
    throw error
  }
}

export function unixTransport(native: Native, fd: number): Transport {
  return {
    send: (chunks, fds, timeoutMs) => native.sendMessage(fd, chunks, Int32Array.from(fds), timeoutMs),
    receive(into, timeoutMs) {
      try {
        return native.receiveMessage(fd, into, timeoutMs)
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException
        if (code === 'ETIMEDOUT' || code === 'EAGAIN') return undefined
        if (code === 'ECONNRESET') return { bytes: 0, fds: [] }
        throw error
      }
    },
    watch(onReadable) {
      const watcher = native.watch(fd, onReadable)
      watcher.unref()
      return () => watcher.close()
    },
    closeFds: (fds) => void native.closeFds(Int32Array.from(fds)),
    close: () => void native.closeFds(Int32Array.of(fd)),
  }
}
