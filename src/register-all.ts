import net, { type Server } from 'node:net'
import { participant } from './attach.js'
import { AttachedServer } from './attached-server.js'
import type { Installation } from './installation.js'
import { resolveOptions } from './options.js'
import type { PlainInstallation } from './plain-installation.js'
import { findSupervisor } from './triggers/supervisor.js'

/**
 * What `tsunagi/register` does: every server of the process takes part from its listen() on, without the application knowing. From then on SIGUSR2
 * reloads; to a process that does not listen, or is a cluster worker, it does what it does without tsunagi.
 * Nothing is on the path of a connection. A second call, as with `-r` and `--import` together, does nothing. Returns how to undo it.
 */
export function register(): () => void {
  const here = participant()
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
  const unwatch = here.datagrams?.watch()
  const processOnReload = () => reloadBySignal(here)
  here.exit?.watch()
  // nodemon's SIGUSR2 means to leave.
  const isFree = (here.exit ? here.exit.supervisor : findSupervisor(here.env.environment))?.restartSignal !== 'SIGUSR2'
  here.onFirstListener(() => {
    if (here.registered && isFree) process.on('SIGUSR2', processOnReload)
  })
  return () => {
    prototype._listen2 = original
    unwatch?.()
    process.off('SIGUSR2', processOnReload)
    here.registered = false
  }
}

function reloadBySignal(here: Installation | PlainInstallation): void {
  if (process.listenerCount('SIGUSR2') > 1)
    return here.env.log('SIGUSR2 is left to the application, which listens for it as well: use reload()')
  const env = here.env.environment['TSUNAGI_RELOAD_ENV'] === 'fresh' ? 'fresh' : 'current'
  here.reload({ env }).catch((error: Error) => here.env.log(error.message))
}
