import type { MessageOf } from '../channel/messages.js'
import type { ConnectionRecord } from '../native/repair.js'

/** What a snapshot says before its connections: enough to hold the packets again, and to decide whether it may be restored at all. */
export interface SnapshotHead {
  /** Who saved, which listeners it had, and when the packets began to be held. */
  readonly bequest: Readonly<MessageOf<'bequest'>>
  /** When that process was started, in the kernel's own unit: a pid may be used again. */
  readonly started: string
  /** Network namespace, as /proc/self/ns/net reads. */
  readonly namespace: string
  /** For how long the packets are held, and how old the snapshot may become: one number, ms. */
  readonly holdMs: number
  /** What is held. */
  readonly ports: readonly number[]
  readonly tuples: Uint8Array
}

/** The connections themselves: the record of any handover, and what the kernel knew of each, in the same order. */
export interface SnapshotBody extends ConnectionRecord {
  readonly record: Readonly<MessageOf<'transfer'>>
  readonly segments: readonly Uint8Array[]
  /** Connections, by index, that could not be saved, with the reason. */
  readonly refused: ReadonlyMap<number, string>
}
