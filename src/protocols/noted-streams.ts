import type { ServerResponse } from 'node:http'
import type { ResponseWatcher } from '../native/net-internals.js'
import { Beginning } from './beginning.js'
import { EventStream } from './event-stream.js'

/** Notes what is written to event streams. Others cost a look at their head. */
export const eventStreamWatcher: ResponseWatcher = {
  head(response, head) {
    if (isEncodedEventStream(head)) encodedStreams.add(response)
    if (!isEventStream(head)) return
    const lastId = response.req.headers['last-event-id']
    streams.set(response, {
      events: new EventStream(typeof lastId === 'string' ? lastId : undefined),
      beginning: new Beginning(begunElsewhere.has(response)),
      onBoundary: undefined,
    })
  },
  wrote(response, chunk, encoding) {
    const stream = streams.get(response)
    if (stream === undefined) return
    stream.events.note(chunk, encoding)
    stream.beginning.wrote(chunk, encoding)
    if (stream.onBoundary && stream.events.isBetweenEvents) setImmediate(stream.onBoundary)
  },
}

export function isEventStream(head: string): boolean {
  return head.includes('text/event-stream') && EVENT_STREAM.test(head) && !ENCODED.test(head)
}

/** Of a compressed body nobody here knows where its events end. */
function isEncodedEventStream(head: string): boolean {
  return head.includes('text/event-stream') && EVENT_STREAM.test(head) && ENCODED.test(head)
}

interface Stream {
  readonly events: EventStream
  readonly beginning: Beginning
  onBoundary: (() => void) | undefined
}

export const streams = new WeakMap<ServerResponse, Stream>()
export const encodedStreams = new WeakSet<ServerResponse>()
/** Responses that go on with a body of another process. */
export const begunElsewhere = new WeakSet<ServerResponse>()
const EVENT_STREAM = /^content-type: *text\/event-stream/im
const ENCODED = /^content-encoding: *(?!identity)\S/im
