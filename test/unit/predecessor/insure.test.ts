import { expect, test, vi } from 'vitest'
import type { Env } from '../../../src/env.js'
import { CONNECTION_COLUMNS, CONNECTION_REFUSALS } from '../../../src/native/repair.js'
import type { Frozen } from '../../../src/predecessor/freeze.js'
import { insure } from '../../../src/predecessor/insure.js'

function lookingAt(refusal: (typeof CONNECTION_REFUSALS)[number] = 'none', environment: NodeJS.ProcessEnv = {}) {
  const glimpseConnections = vi.fn((fds: Int32Array) => ({
    figures: new Float64Array(fds.length * CONNECTION_COLUMNS).fill(CONNECTION_REFUSALS.indexOf(refusal)),
    tuples: new Uint8Array(fds.length * 36),
    names: ['bbr'],
    queues: new Uint8Array(),
  }))
  return { env: { native: { glimpseConnections }, environment } as unknown as Env, glimpseConnections }
}

const moving = (...repair: ('auto' | 'off')[]) =>
  ({ moving: repair.map((wish, index) => ({ fd: 10 + index, attached: { options: { repair: wish } } })) }) as unknown as Frozen

test('has a row for each connection, those of a server that does not want it as no descriptor', () => {
  const { env, glimpseConnections } = lookingAt()
  const figures = insure(env, moving('off', 'auto', 'auto'))
  expect(glimpseConnections.mock.calls.map(([fds]) => [...fds])).toEqual([[11], [-1, 11, 12]])
  expect(figures).toMatchObject({ names: ['bbr'] })
  expect(figures?.figures).toHaveLength(3 * CONNECTION_COLUMNS * 8)
})

test('looks at one alone where the capability is missing', () => {
  const { env, glimpseConnections } = lookingAt('not-in-repair')
  expect(insure(env, moving('auto', 'auto'))).toBeUndefined()
  expect(glimpseConnections).toHaveBeenCalledTimes(1)
})

test.for([
  ['nothing moves', moving(), {}],
  ['no server wants it', moving('off', 'off'), {}],
  ['TSUNAGI_REPAIR is off', moving('auto'), { TSUNAGI_REPAIR: 'off' }],
  ['more than 100 move at once', moving(...Array<'auto'>(101).fill('auto')), {}],
] as const)('looks at nothing where %s', ([, frozen, environment]) => {
  const { env, glimpseConnections } = lookingAt('none', environment)
  expect(insure(env, frozen)).toBeUndefined()
  expect(glimpseConnections).not.toHaveBeenCalled()
})
