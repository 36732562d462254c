import type { RepairFigures } from '../channel/record.js'
import type { Env } from '../env.js'
import { CONNECTION_COLUMN, CONNECTION_COLUMNS, CONNECTION_REFUSALS } from '../native/repair.js'
import { repairWish } from '../options.js'
import type { Frozen } from './freeze.js'

/**
 * With CAP_NET_ADMIN, and where they are few, connections that are about to move are looked at in repair mode: the kernel's own sequence numbers, and what was
 * negotiated, go along as a second witness beside the descriptor. Their peers notice nothing of it, see `npm run bench -- insured`; but each look takes
 * about as long as all else that is done for a connection while nobody serves it, hence the limit.
 */
export function insure(env: Env, { moving }: Frozen): RepairFigures | undefined {
  if (moving.length === 0 || moving.length > MOST_CONNECTIONS || repairWish(env.environment) === 'off') return undefined
  const fds = Int32Array.from(moving, ({ fd, attached }) => (attached?.options.repair === 'off' ? NONE : fd))
  const first = fds.findIndex((fd) => fd !== NONE)
  if (first < 0) return undefined
  // Without the capability one refusal tells for all.
  if (refusalOf(env.native.glimpseConnections(fds.subarray(first, first + 1)).figures) === 'not-in-repair') return undefined
  const { figures, tuples, names } = env.native.glimpseConnections(fds)
  return { figures: new Uint8Array(figures.buffer, figures.byteOffset, figures.byteLength), tuples, names }
}

function refusalOf(figures: Float64Array, row = 0): (typeof CONNECTION_REFUSALS)[number] | undefined {
  return CONNECTION_REFUSALS[figures[row * CONNECTION_COLUMNS + CONNECTION_COLUMN.refusal] as number]
}

/** At 10 to 30 µs each this is at most 3 ms. */
const MOST_CONNECTIONS = 100
const NONE = -1
