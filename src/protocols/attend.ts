import type { AttachedServer } from '../attached-server.js'
import type { CarriedState } from '../carry/carried-state.js'
import { halves } from '../halves.js'
import { watchResponses } from '../native/net-internals.js'
import { requestLimit } from './http-limit.js'
import { noteSessions } from './http2-sessions.js'
import { isAedesLoaded } from './mqtt/is-loaded.js'
import { eventStreamWatcher } from './noted-streams.js'
import { isEngineIoLoaded } from './socketio/is-loaded.js'
import { noteUpgrades } from './websocket/upgrades.js'

/**
 * A server takes part from now on. What nobody could tell at a handover is noted from here on, as little as will do: it is part of every start, and the
 * protocols themselves are not. `prepare` is called where a library is loaded whose objects have to be learnt of. Returns how to undo it.
 */
export function attend(attached: AttachedServer, carried: CarriedState, prepare: () => void): () => void {
  const { kind, server } = attached
  const mqtt = (kind === 'raw' || kind === 'http') && isAedesLoaded() ? halves() : undefined
  const state = mqtt && carried.carry(server, BROKER, () => ({}), {})
  const undo = mqtt && state ? [mqtt.followBrokers(server, state)] : []
  if (kind === 'http2') return noteSessions(server)
  if (kind !== 'http') return undoAll
  if (isEngineIoLoaded()) prepare()
  undo.push(watchResponses(server, eventStreamWatcher), requestLimit.attend(attached), noteUpgrades(server, mqtt?.followWebSocket))
  return undoAll

  function undoAll(): void {
    for (const one of undo) one()
  }
}

/** What an MQTT broker holds is carried for its server, under a name that tells a person what it is. */
const BROKER = 'the MQTT broker'
