import type { Channel } from '../channel/channel.js'
import type { Received } from '../channel/codec.js'
import type { MessageOf } from '../channel/messages.js'
import { TsunagiError } from '../errors.js'
import { aligned } from '../handover/aligned.js'
import type { Landing } from './landing.js'

/** Everything of one transaction as it came over the channel. */
export interface Arrived {
  readonly record: Readonly<MessageOf<'transfer'>>
  readonly segments: readonly Uint8Array[]
  readonly landing: Landing
}

/** What came instead of a record: the predecessor has given up this try. */
export type Aborted = MessageOf<'abort'>

/** Sits in the receive loop until the whole record is here. Blocks; whatever has landed is dropped on every way out but success. */
export function receive(channel: Channel, landing: Landing, onLate: (late: Received) => void): Arrived | Aborted {
  try {
    for (;;) {
      const received = receiveWhileInspecting(channel, landing)
      if (received === undefined) {
        throw new TsunagiError(
          'ERR_TSUNAGI_ABORTED',
          `The predecessor sent nothing for ${RECEIVE_TIMEOUT} ms after it was told to go on.`,
          { phase: 'receive', serving: true },
        )
      }
      const { message, segments, fds } = received
      switch (message.type) {
        case 'fds':
          landing.land(fds)
          break
        case 'ended':
          landing.dropAhead(message.place)
          break
        case 'late':
          onLate(received) // it was on its way before the predecessor came round to this
          break
        case 'abort':
          landing.dropAll()
          return message
        case 'transfer':
          if (message.ahead && !landing.arrange(new Int32Array(aligned(message.ahead))))
            throw breach('The record names places among the descriptors that came ahead which nothing has landed on.')
          if (message.count === landing.count) return { record: message, segments, landing }
          throw breach(`The record describes ${message.count} connections and ${landing.count} descriptors came.`)
        default:
          channel.closeFds(fds)
          throw breach(`The predecessor sent "${message.type}" in place of the record.`)
      }
    }
  } catch (error) {
    landing.dropAll()
    throw error
  }
}

/** While the predecessor makes its record this process has nothing to receive, and something to look at. */
function receiveWhileInspecting(channel: Channel, landing: Landing): Received | undefined {
  do {
    const received = channel.receive(0)
    if (received) return received
  } while (landing.inspectSome())
  return channel.receive(RECEIVE_TIMEOUT)
}

function breach(message: string): TsunagiError {
  return new TsunagiError('ERR_TSUNAGI_PROTOCOL', message, { phase: 'receive', serving: true })
}

/** Between `go` and the first message the predecessor only has to come round to its next macrotask. */
const RECEIVE_TIMEOUT = 10_000
