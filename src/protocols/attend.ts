import type { AttachedServer } from '../attached-server.js'
import { watchResponses } from '../native/net-internals.js'
import { requestLimit } from './http-limit.js'
import { noteSessions } from './http2-sessions.js'
import { eventStreamWatcher } from './noted-streams.js'
import { isEngineIoLoaded } from './socketio/is-loaded.js'
import { noteUpgrades } from './websocket/upgrades.js'

/**
 * A server takes part from now on. What nobody could tell at a handover is noted from here on, as little as will do: it is part of every start, and the
 * protocols themselves are not. `prepare` is called where a library is loaded whose objects have to be learnt of. Returns how to undo it.
 */
export function attend(attached: AttachedServer, prepare: () => void): () => void {
  const { kind, server } = attached
  if (kind === 'http2') return noteSessions(server)
  if (kind !== 'http') return () => {}
  if (isEngineIoLoaded()) prepare()
  const undo = [watchResponses(server, eventStreamWatcher), requestLimit.attend(attached), noteUpgrades(server)]
  return () => {
    for (const one of undo) one()
  }
}
