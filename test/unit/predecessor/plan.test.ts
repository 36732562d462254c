import type { Socket } from 'node:net'
import { expect, it } from 'vitest'
import type { Installation } from '../../../src/installation.js'
import { plan } from '../../../src/predecessor/plan.js'

const MANY = 20_001
const MUCH = 64 * 1024 * 1024 + 1
const ALL = Number.POSITIVE_INFINITY
const CANARY = 64

/** An installation of one server with so many connections, each with bytes of which the application does not know yet, or the kernel. */
function installation({ connections = 0, unread = 0, unsent = 0, carries = false }) {
  const sockets = Array<Socket>(connections).fill({ readableLength: unread, writableLength: unsent } as Socket)
  return {
    servers: new Set([{ server: {} }]),
    finder: { find: () => new Map([[{}, sockets]]) },
    carried: { hasServerState: () => carries },
  } as unknown as Installation
}

it.each([
  ['auto', { connections: MANY - 1 }, ALL],
  ['auto', { connections: MANY }, CANARY],
  ['auto', { connections: 1, unsent: MUCH - 1 }, ALL],
  ['auto', { connections: 1, unsent: MUCH }, CANARY],
  ['auto', { connections: 2, unread: MUCH / 2 + 1 }, CANARY],
  ['auto', { connections: MANY, carries: true }, ALL],
  ['atomic', { connections: MANY }, ALL],
  ['rolling', { connections: 1 }, CANARY],
  ['rolling', { connections: 1, carries: true }, ALL],
] as const)('in mode %s, with %o, the first transaction takes at most %d', (mode, of, limit) => {
  expect(plan(installation(of), mode)).toBe(limit)
})
