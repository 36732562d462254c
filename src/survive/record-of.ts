import type { MessageOf } from '../channel/messages.js'
import { http } from '../protocols/http.js'
import { BOUNDARY } from './boundary.js'
import type { Sorted } from './sort.js'

/** The record that the dead process would have made of those that go on, and empty places for the others, which only the report counts. */
export function recordOf({ whole, broken }: Sorted, servers: readonly string[]): MessageOf<'transfer'> {
  const count = whole.length + broken.length
  const server = new Uint16Array(count)
  const flags = new Uint16Array(count)
  const verify = new Float64Array(3 * count)
  const protocols: MessageOf<'transfer'>['protocols'] = []
  for (const [i, connection] of whole.entries()) {
    server[i] = connection.server
    flags[i] = connection.flags
    verify.set([connection.consumed, connection.produced, connection.identity], 3 * i)
    if (connection.boundary === BOUNDARY.http)
      protocols.push([i, http.name, { seasoned: connection.consumed > 0, last: false, requests: 0 }])
  }
  return {
    type: 'transfer',
    count,
    base: 0,
    more: 0,
    servers: [...servers],
    server: new Uint8Array(server.buffer),
    flags: new Uint8Array(flags.buffer),
    verify: new Uint8Array(verify.buffer),
    timeouts: [],
    highWaterMarks: [],
    unread: [],
    unsent: [],
    graph: new Uint8Array(),
    required: protocols.map(([i, name]) => [i, name]),
    protocols,
  }
}
