import type { MessageOf } from '../channel/messages.js'
import { CONNECTION_FLAG } from '../channel/record.js'
import { holdPackets, releasePackets } from '../cold/held-packets.js'
import { isImported } from '../cold/import-snapshot.js'
import { leaveRepairMode, type Remade, remake } from '../cold/remake.js'
import type { SnapshotBody, SnapshotHead } from '../cold/snapshot-data.js'
import { Claim } from '../cold/snapshot-store.js'
import { heldPacketsOf } from '../cold/stored.js'
import { resetPeers, speakFirst, wakePeers } from '../cold/wake.js'
import type { Env } from '../env.js'
import { aligned } from '../handover/aligned.js'
import { type RepairPowers, repairPowers } from '../native/repair-powers.js'
import type { Held, Opened } from './holder.js'

/** A snapshot that the next start has found. Until `commit` it can be restored by somebody else; from `commit` on by nobody. */
export class HeldSnapshot implements Held {
  readonly holder = 'snapshot'
  readonly bequest: Held['bequest']
  readonly #env: Env
  readonly #powers: RepairPowers
  readonly #path: string
  readonly #head: SnapshotHead
  #claim: Claim | undefined
  #saved: SnapshotBody | undefined
  #remade: Remade | undefined

  constructor(env: Env, path: string, head: SnapshotHead) {
    this.#env = env
    this.#powers = repairPowers(env)
    this.#path = path
    this.#head = head
    this.bequest = head.bequest
  }

  /** The address is free: whoever asks listens there itself. */
  takeListener(): undefined {
    return undefined
  }

  open(): Opened {
    const { native } = this.#env
    this.#claim = new Claim(this.#path)
    const saved = this.#claim.readBody()
    this.#saved = saved
    holdPackets(this.#powers, heldPacketsOf(this.#head), this.#head.holdMs) // booting has taken its time
    native.raiseFdLimit()
    native.growFdTable(native.fdLimits().open + saved.record.count + SPARE_FDS)
    const remade = remake(native, this.#powers, saved)
    this.#remade = remade
    return {
      record: withKernelQueues(saved.record, remade),
      segments: saved.segments,
      fds: [...remade.fds],
      failed: new Map([...saved.refused, ...remade.failed]),
      sameSockets: false,
    }
  }

  commit(): void {
    const { saved, remade } = this.#opened()
    this.#claim?.spend() // the commit point: from here on nobody else restores them
    this.#env.fault('snapshot-after-claim')
    this.#release()
    leaveRepairMode(this.#powers, remade, saved)
    this.#claim?.forget()
  }

  resumed(): void {
    const { saved, remade } = this.#opened()
    resetPeers(this.#env, saved, remade.failed.keys())
    if (isImported(this.#head)) speakFirst(this.#env, saved)
    wakePeers(this.#env, { fds: remade.fds, unread: remade.unread, gapMs: Date.now() - this.bequest.leftAt, saved })
  }

  /** This process serves without it, and its own clients must get through: nobody will restore it any more. */
  close(): void {
    this.#claim?.forget()
    this.#release()
    if (this.#saved) resetPeers(this.#env, this.#saved, Array(this.#saved.record.count).keys())
  }

  #opened() {
    if (!this.#saved || !this.#remade) throw new TypeError('open() comes before commit() and resumed()')
    return { saved: this.#saved, remade: this.#remade }
  }

  #release(): void {
    try {
      releasePackets(this.#powers, heldPacketsOf(this.#head))
    } catch (error) {
      this.#env.log(
        `the packet hold could not be ended, and ends by itself within ${this.#head.holdMs / 1000} s: ${(error as Error).message}`,
      )
    }
  }
}

/** What of the kernel's queues could not be put back there goes along as bytes that the application has not read, or that were not sent. */
function withKernelQueues(record: SnapshotBody['record'], { unread, unsent, ended }: Remade): Readonly<MessageOf<'transfer'>> {
  const flags = new Uint16Array(aligned(record.flags))
  for (const index of ended) flags[index] = (flags[index] as number) | CONNECTION_FLAG.peerEnded
  return {
    ...record,
    flags: new Uint8Array(flags.buffer),
    unread: [...record.unread, ...unread], // Node had read what it holds before
    unsent: [...unsent, ...record.unsent], // and the kernel has taken what it holds before
  }
}

const SPARE_FDS = 64
