import { describe, expect, test } from 'vitest'
import { Channel, type ChannelListener } from '../../../src/channel/channel.js'
import { encode, type Received } from '../../../src/channel/codec.js'
import { encodeFrame } from '../../../src/channel/frame.js'
import type { Message } from '../../../src/channel/messages.js'
import { type MemoryEnd, memoryPair } from './in-memory-transport.js'

const GO: Message = { type: 'go' }
const COMMIT: Message = { type: 'commit' }

function connected(): { near: Channel; far: Channel; nearEnd: MemoryEnd; farEnd: MemoryEnd } {
  const [nearEnd, farEnd] = memoryPair()
  return { near: new Channel(nearEnd), far: new Channel(farEnd), nearEnd, farEnd }
}

/** A listener that writes down what it is told. */
function recorder(): ChannelListener & { messages: string[]; reasons: Error[]; fds: number[] } {
  const messages: string[] = []
  const reasons: Error[] = []
  const fds: number[] = []
  return {
    messages,
    reasons,
    fds,
    onMessage(received: Received) {
      messages.push(received.message.type)
      fds.push(...received.fds)
    },
    onClose: (reason) => void reasons.push(reason),
  }
}

const codeOf = (act: () => unknown): string | undefined => {
  try {
    act()
  } catch (error) {
    return (error as { code?: string }).code
  }
  return undefined
}

const headOf = (message: Message, fds: number[] = []) => {
  const pieces = encodeFrame(encode(message, [], fds))
  return [pieces[0] as Uint8Array]
}

describe('receive', () => {
  test('gives a message with its segments and descriptors', () => {
    const { near, far } = connected()
    far.send({ type: 'late', connection: 3, kind: 'write', detail: null }, { segments: [Buffer.from('bytes')], fds: [8, 9] })
    const received = near.receive(0)
    expect(received?.message).toEqual({ type: 'late', connection: 3, kind: 'write', detail: null })
    expect(Buffer.from(received?.segments[0] as Uint8Array).toString()).toBe('bytes')
    expect(received?.fds).toEqual([8, 9])
  })

  test('gives one message a call, in order, and nothing once its time is over', () => {
    const { near, far, nearEnd } = connected()
    far.send(GO)
    far.send(COMMIT)
    expect([near.receive(50)?.message.type, near.receive(50)?.message.type, near.receive(50)]).toEqual(['go', 'commit', undefined])
    expect(nearEnd.waits.at(-1)).toBeLessThanOrEqual(50)
  })

  test('waits without end when told so, and for the rest of its time after part of a message', () => {
    const { near, far, nearEnd, farEnd } = connected()
    far.send(GO)
    near.receive(-1)
    expect(new Set(nearEnd.waits)).toEqual(new Set([-1]))
    nearEnd.waits.length = 0
    farEnd.send(headOf(GO), [], 0)
    let time = 0
    const now = () => {
      time += 30
      return time
    }
    expect(near.receive(100, now)).toBeUndefined()
    expect(nearEnd.waits).toEqual([70, 40])
  })

  test('goes on with part of a message that an earlier call had received', () => {
    const { near, farEnd } = connected()
    const pieces = encodeFrame(encode(GO))
    farEnd.send(pieces.slice(0, 1), [], 0)
    expect(near.receive(0)).toBeUndefined()
    farEnd.send(pieces.slice(1), [], 0)
    expect(near.receive(0)?.message.type).toBe('go')
  })

  test('reads what is queued before it says that the other end has closed', () => {
    const { near, far } = connected()
    far.send(GO)
    far.close()
    expect(near.receive(-1)?.message.type).toBe('go')
    expect(codeOf(() => near.receive(-1))).toBe('ERR_TSUNAGI_CHANNEL_CLOSED')
  })

  test('closes the descriptors of a message that it cannot accept', () => {
    const { near, nearEnd, farEnd } = connected()
    farEnd.send(encodeFrame(encode({ type: 'nonsense' } as unknown as Message, [], [5, 6])), [5, 6], 0)
    expect(codeOf(() => near.receive(0))).toBe('ERR_TSUNAGI_MESSAGE')
    expect(nearEnd.closedFds).toEqual([5, 6])
  })
})

describe('expect', () => {
  test('gives the message that is due, or nothing in time', () => {
    const { near, far } = connected()
    expect(near.expect('go', 0)).toBeUndefined()
    far.send(GO)
    expect(near.expect('go', 0)?.message).toEqual(GO)
  })

  test('refuses any other kind, and closes the descriptors that came with it', () => {
    const { near, far, nearEnd } = connected()
    far.send(COMMIT, { fds: [4] })
    expect(() => near.expect('go', 0)).toThrow('sent "commit" where "go" was due')
    expect(nearEnd.closedFds).toEqual([4])
  })
})

describe('send', () => {
  test('passes its time-out on, which is bounded without one', () => {
    const { near, nearEnd } = connected()
    near.send(GO, { timeoutMs: 7 })
    near.send(GO)
    expect(nearEnd.sendTimeouts).toEqual([7, 5000])
  })

  test('throws what the transport throws, and an error of ours once the channel is closed', () => {
    const { near, farEnd } = connected()
    farEnd.close()
    expect(codeOf(() => near.send(GO))).toBe('EPIPE')
    near.close()
    expect(codeOf(() => near.send(GO))).toBe('ERR_TSUNAGI_CHANNEL_CLOSED')
  })
})

describe('listen', () => {
  test('delivers all that is there, descriptors included', () => {
    const { near, far, nearEnd } = connected()
    const heard = recorder()
    near.listen(heard)
    far.send(GO)
    far.send(COMMIT, { fds: [3] })
    nearEnd.turn()
    expect(heard).toMatchObject({ messages: ['go', 'commit'], fds: [3], reasons: [] })
    expect(nearEnd.closedFds).toEqual([])
  })

  test('delivers no more once paused, not even what is there already, and leaves it to receive', () => {
    const { near, far, nearEnd } = connected()
    const messages: string[] = []
    near.listen({
      onMessage({ message }) {
        messages.push(message.type)
        near.pause()
      },
      onClose() {},
    })
    far.send(GO)
    far.send(COMMIT)
    nearEnd.turn()
    expect(messages).toEqual(['go'])
    expect(nearEnd.isWatched).toBe(false)
    expect(near.receive(0)?.message.type).toBe('commit')
  })

  test('delivers to another listener after a pause', () => {
    const { near, far, nearEnd } = connected()
    const [first, second] = [recorder(), recorder()]
    near.listen(first)
    near.pause()
    near.listen(second)
    far.send(GO)
    nearEnd.turn()
    expect([first.messages, second.messages]).toEqual([[], ['go']])
  })

  test('closes the channel when the other end does, and says why', () => {
    const { near, far, nearEnd } = connected()
    const heard = recorder()
    near.listen(heard)
    far.send(GO)
    far.close()
    nearEnd.turn()
    expect(heard.messages).toEqual(['go'])
    expect(heard.reasons).toMatchObject([{ code: 'ERR_TSUNAGI_CHANNEL_CLOSED' }])
    expect([near.closed, nearEnd.isOpen, nearEnd.isWatched]).toEqual([true, false, false])
  })

  test('closes the channel at a message that it cannot accept, and says why', () => {
    const { near, nearEnd, farEnd } = connected()
    const heard = recorder()
    near.listen(heard)
    farEnd.send([Buffer.from('sixteen bytes, no')], [], 0)
    nearEnd.turn()
    expect(heard.reasons).toMatchObject([{ code: 'ERR_TSUNAGI_MESSAGE' }])
    expect(near.closed).toBe(true)
  })
})

describe('close', () => {
  test('tells the listener the reason, once', () => {
    const { near } = connected()
    const heard = recorder()
    near.listen(heard)
    const reason = new Error('enough')
    near.close(reason)
    near.close()
    expect(heard.reasons).toEqual([reason])
  })

  test('closes descriptors of a message that had only begun to arrive', () => {
    const { near, nearEnd, farEnd } = connected()
    farEnd.send(headOf(COMMIT, [5, 6]), [5, 6], 0)
    expect(near.receive(0)).toBeUndefined()
    near.close()
    expect(nearEnd.closedFds).toEqual([5, 6])
  })
})
