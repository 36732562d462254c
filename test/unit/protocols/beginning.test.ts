import { setImmediate as turn } from 'node:timers/promises'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { Beginning } from '../../../src/protocols/beginning.js'

const MOVES = undefined
const JUST_BEGUN = { passes: true }
const STAYS = { passes: false }
const GREETING_MS = 2_000

describe('the beginning of an event stream', () => {
  afterEach(() => vi.useRealTimers())

  it('is a greeting where it comes in the turn of the head', async () => {
    const beginning = new Beginning(false)
    expect(beginning.obstacle()).toMatchObject(JUST_BEGUN)
    beginning.wrote('retry: 1000\n\ndata: welcome\n\n', 'utf8')
    expect(beginning.obstacle()).toBe(MOVES)
    await turn()
    beginning.wrote('data: an event\n\n', 'utf8')
    await turn()
    expect(beginning.obstacle()).toBe(MOVES)
  })

  it.each([
    ['an event alone', 'data: welcome\n\n', STAYS],
    ['an event with an id', 'id: 1\ndata: x\n\n', MOVES],
    ['a comment', ': ping\n\n', JUST_BEGUN],
  ])('later than the head: %s', async (_what, text, outcome) => {
    const beginning = new Beginning(false)
    await turn()
    beginning.wrote(Buffer.from(text), undefined)
    await turn()
    if (outcome) expect(beginning.obstacle()).toMatchObject(outcome)
    else expect(beginning.obstacle()).toBe(MOVES)
  })

  it.each(['before', 'behind'])('is none where an older stream gets the same in that turn, %s it', async (when) => {
    const [older, younger] = [new Beginning(true), new Beginning(false)]
    await turn()
    for (const each of when === 'before' ? [older, younger] : [younger, older]) each.wrote('data: to all\n\n', 'utf8')
    await turn()
    expect(younger.obstacle()).toBe(MOVES)
  })

  it('is none where an interval writes it', async () => {
    const beginning = new Beginning(false)
    await new Promise<void>((resolve) => {
      const timer = setInterval(() => {
        beginning.wrote('data: tick\n\n', 'utf8')
        clearInterval(timer)
        resolve()
      }, 1)
    })
    await turn()
    expect(beginning.obstacle()).toBe(MOVES)
  })

  it('is none where it comes later than a handler waits', async () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    const beginning = new Beginning(false)
    await turn()
    vi.advanceTimersByTime(GREETING_MS)
    expect(beginning.obstacle()).toBe(MOVES)
    beginning.wrote('data: x\n\n', 'utf8')
    await turn()
    expect(beginning.obstacle()).toBe(MOVES)
  })
})
