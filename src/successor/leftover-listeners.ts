import type { AttachedServer } from '../attached-server.js'
import type { Installation } from '../installation.js'
import { adoptSecondListener, serverHandleOf } from '../native/net-internals.js'

/**
 * Listeners of a predecessor that was found by its name, on ports that this process does not listen on. Who is in their backlog, or in the middle of a handshake,
 * would be reset when they close; so this process accepts there for a moment, then lets no new client begin a handshake, and closes when
 * the last one has come in. Its own next version may want the port earlier: then it closes at once.
 */
export class LeftoverListeners {
  readonly #installation: Installation
  readonly #closers = new Map<string, () => void>()

  constructor(installation: Installation) {
    this.#installation = installation
    installation.lifecycle.retiring.addEventListener('abort', () => {
      for (const close of [...this.#closers.values()]) close()
    })
  }

  /** Takes ownership of `fd`, the listener at the predecessor's `key`, whose clients are this server's. */
  accept(key: string, fd: number, { server, backlog }: AttachedServer): void {
    const { desk, env } = this.#installation
    if (serverHandleOf(server) === null || this.#closers.has(key)) return void env.native.closeFds(Int32Array.of(fd))
    const handle = adoptSecondListener(server, fd)
    handle.listen(backlog)
    let timer = setTimeout(() => {
      env.native.dropSyns(handle.fd)
      timer = setTimeout(closeWhenEmpty, HANDSHAKE_MS)
    }, ACCEPT_MS)
    // @note libuv src/unix/stream.c uv__server_io(), since 1.45: one connection for each turn of the loop.
    const closeWhenEmpty = () => {
      if (env.native.pollReadable(Int32Array.of(handle.fd), 0).length === 0) close()
      else timer = setTimeout(closeWhenEmpty, 1)
    }
    const close = () => {
      clearTimeout(timer)
      this.#closers.delete(key)
      desk.unpublish(key)
      handle.close()
    }
    this.#closers.set(key, close)
    desk.publish(key)
  }

  /** Somebody asks for this address: it is free from now on. */
  giveUp(key: string): void {
    this.#closers.get(key)?.()
  }
}

/** Long enough for a balancer to have tried this port and found the other. */
const ACCEPT_MS = 1_000
/** For handshakes that had begun; a client that is let in no more tries again after a second, and is refused then. */
const HANDSHAKE_MS = 250
