import { describe, expect, it } from 'vitest'
import { gracePeriod, handoverMode, repairWish, replaySetting, resolveOptions, surviveSetting } from '../../src/options.js'

const refusal = (message: RegExp) =>
  expect.objectContaining({ name: 'TypeError', code: 'ERR_TSUNAGI_OPTION', message: expect.stringMatching(message) })

describe('the options of attach()', () => {
  it('have a policy that moves every connection where none is given', () => {
    expect(resolveOptions().policy({} as never)).toBe('move')
    expect(resolveOptions({}).policy({} as never)).toBe('move')
  })

  it('keep the policy that is given', () => {
    const policy = () => 'drain' as const
    expect(resolveOptions({ policy }).policy).toBe(policy)
  })

  it('do not include others, and the message says which there are', () => {
    expect(() => resolveOptions({ polcy: () => 'move' } as never)).toThrow(
      refusal(/^attach\(\) has no option "polcy"; it knows: policy, onExit, repair, replay, survive\.$/),
    )
  })

  it.each(['keep', true, null])('have no onExit that is %j', (onExit) => {
    expect(() => resolveOptions({ onExit } as never)).toThrow(refusal(/"onExit" of attach\(\) is 'none', 'hold' or 'snapshot'/))
  })

  it.each(['move', true, null])('have no policy that is %j', (policy) => {
    expect(() => resolveOptions({ policy } as never)).toThrow(refusal(/"policy" of attach\(\) is a function/))
  })
})

describe('repair', () => {
  it('is auto unless it is said', () => {
    expect([resolveOptions().repair, repairWish({}), repairWish({ TSUNAGI_REPAIR: '' })]).toEqual(['auto', 'auto', 'auto'])
    expect([resolveOptions({ repair: 'off' }).repair, repairWish({ TSUNAGI_REPAIR: 'off' })]).toEqual(['off', 'off'])
  })

  it('is refused where it is anything else', () => {
    expect(() => resolveOptions({ repair: 'on' } as never)).toThrow(refusal(/"repair" of attach\(\) is 'auto' or 'off', not "on"/))
    expect(() => repairWish({ TSUNAGI_REPAIR: 'on' })).toThrow(refusal(/^TSUNAGI_REPAIR is auto or off, not "on"\.$/))
  })
})

describe('survive', () => {
  it('is off unless it is said', () => {
    expect([resolveOptions().survive, resolveOptions({ survive: true }).survive]).toEqual([false, true])
    expect([surviveSetting({}), surviveSetting({ TSUNAGI_SURVIVE: '' })]).toEqual([undefined, undefined])
    expect([surviveSetting({ TSUNAGI_SURVIVE: '1' }), surviveSetting({ TSUNAGI_SURVIVE: '0' })]).toEqual([true, false])
  })

  it('is refused where it is anything else', () => {
    expect(() => resolveOptions({ survive: 1 } as never)).toThrow(refusal(/"survive" of attach\(\) is true or false, not 1/))
    expect(() => surviveSetting({ TSUNAGI_SURVIVE: 'yes' })).toThrow(refusal(/^TSUNAGI_SURVIVE is 0 or 1, not "yes"\.$/))
  })
})

describe('replay', () => {
  it('is off unless it is said', () => {
    expect([resolveOptions().replay, replaySetting({}), replaySetting({ TSUNAGI_REPLAY: '' })]).toEqual([0, undefined, undefined])
    expect(resolveOptions({ replay: 65_536 }).replay).toBe(65_536)
  })

  it.each([
    ['0', 0],
    ['65536', 65_536],
    ['64kb', 65_536],
    ['1MB', 1_048_576],
  ])('can be %s', (given, bytes) => {
    expect(replaySetting({ TSUNAGI_REPLAY: given })).toBe(bytes)
  })

  it('is refused where it is anything else', () => {
    for (const given of ['1 apple', '-1', '1.5mb', '1tb', 'mb', '99999999999gb'])
      expect(() => replaySetting({ TSUNAGI_REPLAY: given })).toThrow(
        refusal(/^TSUNAGI_REPLAY is a number of bytes, such as 65536 or 1mb, not "/),
      )
    for (const replay of [-1, 1.5, '1mb', null])
      expect(() => resolveOptions({ replay } as never)).toThrow(refusal(/"replay" of attach\(\) is a number of bytes, 0 or more, not/))
  })
})

describe('TSUNAGI_MODE', () => {
  it('is auto where it is missing or empty', () => {
    expect([handoverMode({}), handoverMode({ TSUNAGI_MODE: '' })]).toEqual(['auto', 'auto'])
  })

  it.each(['auto', 'atomic', 'rolling'] as const)('can be %s', (mode) => {
    expect(handoverMode({ TSUNAGI_MODE: mode })).toBe(mode)
  })

  it('is refused where it is anything else', () => {
    expect(() => handoverMode({ TSUNAGI_MODE: 'gradual' })).toThrow(refusal(/^TSUNAGI_MODE is atomic, rolling or auto, not "gradual"\.$/))
  })
})

describe('TSUNAGI_GRACE', () => {
  it.each([
    [undefined, 30_000],
    ['', 30_000],
    ['0', 0],
    ['1', 1000],
    ['0.5', 500],
    ['3600', 3_600_000],
  ])('%j is %d ms', (given, ms) => {
    expect(gracePeriod(given === undefined ? {} : { TSUNAGI_GRACE: given })).toBe(ms)
  })

  it.each(['-1', '10s', 'NaN', 'Infinity', 'forever'])('%j is refused', (given) => {
    expect(() => gracePeriod({ TSUNAGI_GRACE: given })).toThrow(refusal(/^TSUNAGI_GRACE is a number of seconds, 0 or more, not /))
  })
})
