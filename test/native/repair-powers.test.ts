import { expect, test } from 'vitest'
import { REPAIR_POWERS, repairPowers } from '../../src/native/repair-powers.js'
import { native } from './native-under-test.js'

test('a process without a helper uses what it may do itself', () => {
  const powers = repairPowers({ native, environment: {} })
  for (const name of REPAIR_POWERS) expect(powers[name]).toBe(native[name])
})
