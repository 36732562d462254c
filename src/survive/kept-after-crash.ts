import type { Peer } from '../channel/peer.js'
import type { Bequest, Opened } from '../holders/holder.js'
import { KeptByKeeper } from '../holders/kept-by-keeper.js'
import type { Native } from '../native/native.js'
import { endOthers } from './end-others.js'
import { readLedger } from './ledger.js'
import { recordOf } from './record-of.js'
import { type Sorted, sort } from './sort.js'

/** What a keeper has of a process that crashed: connections without a record, which is made of the ledger and of what the kernel knows. */
export class KeptAfterCrash extends KeptByKeeper {
  readonly #native: Native
  readonly #ledger: number
  #sorted: Sorted | undefined

  /** `fds`: of the listeners, and of the ledger. */
  constructor(native: Native, peer: Peer, bequest: Bequest, fds: readonly number[]) {
    super(native, peer, bequest, fds)
    this.#native = native
    this.#ledger = fds.at(-1) as number
  }

  override open(): Opened {
    const { rowBytes, servers } = this.bequest.ledger as NonNullable<Bequest['ledger']>
    return this.play(({ message }, fds) => {
      if (message.type !== 'left') throw new Error('the keeper has something else')
      const sorted = sort(fds, this.#native.inspectTcp(Int32Array.from(fds)), readLedger(this.#ledger, rowBytes))
      const record = recordOf(sorted, servers)
      this.#sorted = sorted
      return {
        record,
        segments: [],
        fds: [...sorted.whole.map(({ fd }) => fd), ...sorted.broken.map(() => -1)],
        failed: new Map(sorted.broken.map(({ reason }, i) => [sorted.whole.length + i, reason])),
        sameSockets: true,
      }
    })
  }

  /** Nobody else has them from here on: those that cannot go on end. */
  override commit(): void {
    super.commit()
    if (this.#sorted) endOthers(this.#native, this.#sorted)
    this.#sorted = undefined
  }

  override close(): void {
    const { gone = [], broken = [] } = this.#sorted ?? {}
    this.#native.closeFds(Int32Array.from([this.#ledger, ...gone, ...broken.map(({ fd }) => fd)]))
    this.#sorted = undefined
    super.close()
  }
}
