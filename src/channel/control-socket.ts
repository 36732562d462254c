import { lstatSync, unlinkSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { Native } from '../native/native.js'
import { Reserve } from './reserve.js'

/**
 * A listening control socket: a file that names it, replaced by rename so that the name never points at a socket nobody listens on.
 * `peerOf` makes of the descriptor of one who has connected whatever `onPeer` takes.
 */
export class ControlSocket<Peer> {
  readonly path: string
  readonly #native: Native
  readonly #fd: number
  readonly #inode: bigint
  readonly #watcher: { close(): void }

  constructor(
    native: Native,
    path: string,
    peerOf: (native: Native, fd: number) => Peer,
    onPeer: (peer: Peer) => void,
    onError: (error: Error) => void,
    reserve = new Reserve(),
  ) {
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
