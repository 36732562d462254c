import { TsunagiError } from '../errors.js'
import type { Installation } from '../installation.js'

/** While the predecessor still serves: room for descriptors now, since each doubling of the table waits about 10 ms in the kernel. */
export function makeRoom({ env }: Installation, connections: number): void {
  env.native.raiseFdLimit()
  const { soft, open } = env.native.fdLimits()
  const needed = open + connections + SPARE_FDS
  if (needed > soft) {
    throw new TsunagiError(
      'ERR_TSUNAGI_FD_LIMIT',
      `${connections} connections are to be taken over, ${open} descriptors are open, and this process may have ${soft} (RLIMIT_NOFILE). Raise the limit (ulimit -n, LimitNOFILE=) to at least ${needed}.`,
      { phase: 'arm', serving: true },
    )
  }
  env.native.growFdTable(needed)
}

const SPARE_FDS = 64
