import { readFileSync } from 'node:fs'
import net, { type Server } from 'node:net'
import { installation } from './attach.js'
import { AttachedServer } from './attached-server.js'
import type { Installation } from './installation.js'
import { resolveOptions } from './options.js'
import { spawnSuccessor } from './triggers/spawn.js'

/**
 * What `tsunagi/register` does: every server of the process takes part from its listen() on, without the application knowing; SIGUSR2 reloads.
 * Nothing is on the path of a connection. A second call, as with `-r` and `--import` together, does nothing. Returns how to undo it.
 */
export function register(): () => void {
  const here = installation()
  if (here === undefined || here.registered) return () => {}
  here.registered = true
  const prototype = net.Server.prototype as Server & { _listen2(...args: unknown[]): void }
  const original = prototype._listen2
  prototype._listen2 = function listen2(this: Server & { _listen2(...args: unknown[]): void }, ...args: unknown[]) {
    if (here.attachedTo(this)) return original.apply(this, args)
    const attached = new AttachedServer(this, resolveOptions(), false)
    here.add(attached, original)
    this._listen2(...args)
  }
  const onReload = () => serverOnReload(here)
  if (!isUnderNodemon()) process.on('SIGUSR2', onReload)
  return () => {
    prototype._listen2 = original
    process.off('SIGUSR2', onReload)
    here.registered = false
  }
}

function serverOnReload(here: Installation): void {
  if (here.servers.size === 0) return
  if (process.listenerCount('SIGUSR2') > 1)
    return here.env.log('SIGUSR2 is left to the application, which listens for it as well: use reload()')
  const env = here.env.environment['TSUNAGI_RELOAD_ENV'] === 'fresh' ? 'fresh' : 'current'
  spawnSuccessor(here, { env }).catch((error: Error) => here.env.log(error.message))
}

/** There SIGUSR2 means restart, and nodemon waits for this process to end. */
function isUnderNodemon(): boolean {
  try {
    return readFileSync(`/proc/${process.ppid}/cmdline`, 'latin1').includes('nodemon')
  } catch {
    return false
  }
}
