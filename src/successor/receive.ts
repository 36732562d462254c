import type { Channel } from '../channel/channel.js'
import type { Received } from '../channel/codec.js'
import type { MessageOf } from '../channel/messages.js'
import { TsunagiError } from '../errors.js'

/** Everything of one handover as it came over the channel. The descriptors are ours to close until handles own them. */
export interface Arrived {
  readonly record: Readonly<MessageOf<'transfer'>>
  readonly segments: readonly Uint8Array[]
  readonly fds: number[]
}

/** What came instead of a record: the predecessor has given up this try. */
export type Aborted = MessageOf<'abort'>

/** Sits in the receive loop until the whole record is here. Blocks; whatever arrived is closed on every way out but success. */
export function receive(channel: Channel, onLate: (late: Received) => void): Arrived | Aborted {
  const fds: number[] = []
  try {
    for (;;) {
      const received = channel.receive(RECEIVE_TIMEOUT)
      if (received === undefined) {
        throw new TsunagiError(
          'ERR_TSUNAGI_ABORTED',
          `The predecessor sent nothing for ${RECEIVE_TIMEOUT} ms after it was told to go on.`,
          { phase: 'receive', serving: true },
        )
      }
      const { message, segments } = received
      if (message.type === 'late') {
        onLate(received) // it was on its way before the predecessor came round to this
        continue
      }
      fds.push(...received.fds)
      if (message.type === 'abort') {
        channel.closeFds(fds)
        return message
      }
      if (message.type === 'transfer') {
        if (message.count !== fds.length) {
          throw new TsunagiError(
            'ERR_TSUNAGI_MESSAGE',
            `The record describes ${message.count} connections and ${fds.length} descriptors came.`,
            { phase: 'receive' },
          )
        }
        return { record: message, segments, fds }
      }
      if (message.type !== 'fds')
        throw new TsunagiError('ERR_TSUNAGI_PROTOCOL', `The predecessor sent "${message.type}" in place of the record.`, {
          phase: 'receive',
        })
    }
  } catch (error) {
    channel.closeFds(fds)
    throw error
  }
}

/** Between `go` and the first message the predecessor only has to come round to its next macrotask. */
const RECEIVE_TIMEOUT = 10_000
