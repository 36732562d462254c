import net, { Server, type ServerOpts, type Socket } from 'node:net'
import { AttachedServer } from './attached-server.js'
import { createEnv } from './env.js'
import { misuse } from './errors.js'
import { halves } from './halves.js'
import { Installation } from './installation.js'
import { boundAddress } from './listener.js'
import { isMainThread, loadBinding } from './native/binding.js'
import { type AttachOptions, resolveOptions } from './options.js'
import type { PlainInstallation } from './plain-installation.js'
import { unpackEnvironment } from './slot.js'

/**
 * Lets a server's connections go on in the next process. Call it before `listen()`, once for each server; a second call does nothing.
 * Plain TCP and HTTP/1.1 connections move; those of https, tls and http2 servers drain, while their listener moves.
 *
 * Where connections cannot be moved (another system than Linux, no addon) the server works as ever, and that is said once on stderr.
 *
 * @throws TypeError ERR_TSUNAGI_ATTACH, ERR_TSUNAGI_OPTION
 */
export function attach<S extends Server>(server: S, options?: AttachOptions): S {
  if (!(server instanceof Server))
    throw misuse('ERR_TSUNAGI_ATTACH', 'attach(server) takes a net.Server, or one that extends it, such as http.Server.')
  const resolved = resolveOptions(options)
  const here = participant()
  if (here === undefined) return server
  const present = here.attachedTo(server)
  if (present) {
    present.ask(resolved) // register has taken it in before
    here.exit?.watch(present)
    return server
  }
  const attached = new AttachedServer(server, resolved)
  here.add(attached)
  const bound = boundAddress(server)
  if (bound) {
    attached.listensOn(bound, 0)
    here.listening(attached)
  }
  return server
}

/** Like `net.createServer`, attached. */
export function createServer(connectionListener?: (socket: Socket) => void): Server
export function createServer(options?: ServerOpts & AttachOptions, connectionListener?: (socket: Socket) => void): Server
export function createServer(
  options: (ServerOpts & AttachOptions) | ((socket: Socket) => void) = {},
  connectionListener?: (socket: Socket) => void,
): Server {
  if (typeof options === 'function') return attach(net.createServer(options))
  const { policy, onExit, repair, survive, ...rest } = options
  return attach(net.createServer(rest, connectionListener), {
    ...(policy && { policy }),
    ...(onExit && { onExit }),
    ...(repair && { repair }),
    ...(survive !== undefined && { survive }),
  })
}

/**
 * The one of this process, made on first use; `undefined` where connections cannot move. Two copies of this package in one tree share it:
 * two would each see half of the servers.
 */
export function installation(): Installation | undefined {
  const shared = globalThis as { [INSTALLATION]?: Installation | null }
  if (!mainThread) return undefined // workers share the process's listeners; the main thread hands over
  if (shared[INSTALLATION] === undefined) {
    unpackEnvironment(process.env)
    if (binding.native) shared[INSTALLATION] = new Installation(createEnv(binding.native))
    else shared[INSTALLATION] = null
  }
  return shared[INSTALLATION] ?? undefined
}

/** The same, or what stands in for it where connections cannot move; `undefined` in worker threads. Says so once. */
export function participant(): Installation | PlainInstallation | undefined {
  const here = installation()
  if (here || !mainThread) return here
  const shared = globalThis as { [PLAIN]?: PlainInstallation }
  if (shared[PLAIN] === undefined) {
    const env = createEnv(undefined)
    shared[PLAIN] = new (halves().PlainInstallation)(env)
    env.log(`${binding.missing?.message}. The server runs as usual; a reload hands its listeners over, and its connections drain.`)
  }
  return shared[PLAIN]
}

const INSTALLATION = Symbol.for('tsunagi.installation')
const PLAIN = Symbol.for('tsunagi.plain-installation')
/** Loaded now, not at the first attach: the files may be gone by then. */
const binding = loadBinding()
const mainThread = isMainThread(binding)
