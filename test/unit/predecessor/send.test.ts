import { describe, expect, it } from 'vitest'
import type { Channel } from '../../../src/channel/channel.js'
import { MAX_FDS_PER_MESSAGE } from '../../../src/channel/messages.js'
import type { Env } from '../../../src/env.js'
import { Deadline } from '../../../src/handover/deadline.js'
import { sendDescriptors } from '../../../src/predecessor/send.js'

/** A channel that says each of `answers` once, an errno name or 'ok', then 'ok'; and a clock that a wait moves on by 1 ms. */
function setUp(...answers: string[]) {
  let now = 0
  const sent: number[][] = []
  const env = {
    fault() {},
    native: {
      pollReadable() {
        now++
        return []
      },
    },
  } as unknown as Env
  const channel = {
    send(_: unknown, { fds }: { fds: number[] }) {
      const answer = answers.shift() ?? 'ok'
      if (answer !== 'ok') throw Object.assign(new Error(answer), { code: answer })
      sent.push(fds)
    },
  } as unknown as Channel
  const fds = Array.from({ length: MAX_FDS_PER_MESSAGE + 10 }, (_, i) => i + 3)
  return { sent, fds, answers, send: () => sendDescriptors(env, channel, fds, new Deadline(() => now, 5)) }
}

describe('sending descriptors', () => {
  it.each(['ETOOMANYREFS', 'ENOBUFS'])('waits for room when the kernel says %s, and sends each once', (code) => {
    const { send, sent, fds } = setUp(code, code, 'ok', code)
    send()
    expect(sent.map(({ length }) => length)).toEqual([MAX_FDS_PER_MESSAGE, 10])
    expect(sent.flat()).toEqual(fds)
  })

  it.each(['ETOOMANYREFS', 'ENOBUFS'])('gives up with %s when the deadline is over', (code) => {
    const { send, sent } = setUp(...Array(100).fill(code))
    expect(send).toThrow(code)
    expect(sent).toEqual([])
  })

  it.each(['EPIPE', 'ECONNRESET', 'ETIMEDOUT'])('does not try again after %s', (code) => {
    const { send, answers } = setUp('ok', code, 'ok')
    expect(send).toThrow(code)
    expect(answers).toEqual(['ok'])
  })
})
