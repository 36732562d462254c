import type { ServerResponse } from 'node:http'
import type { ResponseWatcher } from '../native/net-internals.js'
import { EventStream } from './event-stream.js'

/** Notes what is written to event streams. Others cost a look at their head. */
export const eventStreamWatcher: ResponseWatcher = {
  head(response, head) {
    if (!isEventStream(head)) return
    const lastId = response.req.headers['last-event-id']
    streams.set(response, { events: new EventStream(typeof lastId === 'string' ? lastId : undefined), onBoundary: undefined })
  },
  wrote(response, chunk, encoding) {
    const stream = streams.get(response)
    if (stream === undefined) return
    stream.events.note(chunk, encoding)
    if (stream.onBoundary && stream.events.isBetweenEvents) setImmediate(stream.onBoundary)
  },
}

/** Of a compressed body nobody here knows where its events end. */
export function isEventStream(head: string): boolean {
  return head.includes('text/event-stream') && EVENT_STREAM.test(head) && !ENCODED.test(head)
}

interface Stream {
  readonly events: EventStream
  onBoundary: (() => void) | undefined
}

export const streams = new WeakMap<ServerResponse, Stream>()
const EVENT_STREAM = /^content-type: *text\/event-stream/im
const ENCODED = /^content-encoding: *(?!identity)\S/im
