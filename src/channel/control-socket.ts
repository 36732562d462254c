import { lstatSync, unlinkSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { isAlive } from '../handover/is-alive.js'
import type { Native, PeerCredentials } from '../native/native.js'
import { Channel, type Transport } from './channel.js'
import { Reserve } from './reserve.js'

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

/** A listening control socket: a file that names it, replaced by rename so that the name never points at a socket nobody listens on. */
export class ControlSocket {
  readonly path: string
  readonly #native: Native
  readonly #fd: number
  readonly #inode: bigint
  readonly #watcher: { close(): void }

  constructor(native: Native, path: string, onPeer: (peer: Peer) => void, onError: (error: Error) => void, reserve = new Reserve()) {
    this.path = path
    this.#native = native
    this.#fd = native.listenUnix(join(dirname(path), `.${process.pid}-${basename(path)}`), path, 16)
    this.#inode = lstatSync(path, { bigint: true }).ino
    const accept = () => {
      const fd = native.acceptUnix(this.#fd)
      return fd < 0 ? undefined : peerOf(native, fd)
    }
    const watcher = native.watch(this.#fd, () => {
      try {
        for (let peer = reserve.lend(2, accept); peer; peer = reserve.lend(2, accept)) onPeer(peer)
      } catch (error) {
        onError(error as Error) // a peer that died at once, or no descriptor left: it must not reach the application
      }
    })
    watcher.unref()
    this.#watcher = watcher
  }

  /** Stops listening. The file is removed only if it is still ours: a successor may have renamed its own over it. */
  close(): void {
    this.#watcher.close()
    this.#native.closeFds(Int32Array.of(this.#fd))
    if (lstatSync(this.path, { bigint: true, throwIfNoEntry: false })?.ino === this.#inode) unlinkSync(this.path)
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
