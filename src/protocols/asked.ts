import type { IncomingMessage } from 'node:http'

/* Which requests' handlers have shown that they know of handovers, by `isResumed` or `carry`; and which have looked at what the client has had last. */

const asked = new WeakSet<IncomingMessage>()
const replayed = new WeakSet<IncomingMessage>()
const waiting = new WeakMap<IncomingMessage, () => void>()

/** Returns whether the request was answered in a predecessor already. */
export function ask(request: IncomingMessage): boolean {
  asked.add(request)
  const callback = waiting.get(request)
  waiting.delete(request)
  callback?.()
  return replayed.has(request)
}

/** This request was answered in a predecessor already, and is read once more. */
export function markReplayed(request: IncomingMessage): void {
  replayed.add(request)
}

export function hasAsked(request: IncomingMessage): boolean {
  return asked.has(request)
}

/** Calls back when the handler of a replayed request asks. */
export function onceAsked(request: IncomingMessage, callback: () => void): void {
  waiting.set(request, callback)
}

/** Calls back when somebody reads Last-Event-ID, or the raw headers, as web frameworks do to find it. */
export function onceLookedAt(request: IncomingMessage, callback: () => void): void {
  const { headers, rawHeaders } = request
  if (headers[LAST_EVENT_ID] === undefined) return
  trap(headers, LAST_EVENT_ID, headers[LAST_EVENT_ID], callback)
  trap(request, 'rawHeaders', rawHeaders, callback)
}

function trap(holder: object, name: string, value: unknown, callback: () => void): void {
  Object.defineProperty(holder, name, {
    configurable: true,
    enumerable: true,
    get() {
      Object.defineProperty(holder, name, { value, configurable: true, enumerable: true, writable: true })
      callback()
      return value
    },
  })
}

const LAST_EVENT_ID = 'last-event-id'
