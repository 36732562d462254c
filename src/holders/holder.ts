import type { MessageOf } from '../channel/messages.js'
import type { Installation } from '../installation.js'

/**
 * Where connections are while no process of the server runs. A process that leaves before its successor is there makes the same record as in a live
 * handover and puts it, with the descriptors, into the first holder that takes it; the next process that listens on the address finds it there.
 *
 *   predecessor   freeze → snapshot → put → release → leave        successor   listen: find → … boots … → open → restore → commit → resume → resumed
 *
 * The one rule: at any instant the connections are the predecessor's, the holder's or the successor's. Until `put` returns they are the predecessor's,
 * until `commit` the holder's. A holder knows nothing of protocols, and nothing of what the record says.
 */
export interface Holder {
  readonly name: HolderName
  /** Whether it keeps listeners open. One that does is asked where `listen()` finds the address taken, one that does not where it is free. */
  readonly keepsListeners: boolean
  /** Why it cannot be used here and now, for people; `undefined`: it can. Quick: it is asked once at the start, and at every leave. */
  unavailable(installation: Installation): string | undefined
  /** Reads what `put` will need from disk, where later nothing may be read any more: called once it is known that this process asks for it. */
  prepare?(installation: Installation): void
  /**
   * Takes everything, or throws and has taken nothing. Synchronous: it is called from a signal handler and from process.on('exit').
   * Once it returns the connections are the holder's; this process closes its own descriptors without a word.
   */
  put(installation: Installation, bundle: Bundle): Put
  /** What it holds for a listening address; `undefined`: nothing. Blocks, bounded; throws what the server shall emit. */
  find(installation: Installation, key: string): Held | undefined
}

export type HolderName = 'keeper' | 'systemd' | 'snapshot' | 'in place'

/** Everything that a process leaves. The descriptors stay its own until `put` returns; a holder makes its copies. */
export interface Bundle {
  /** Who leaves it, and the listeners; the first message of what travels. */
  readonly bequest: Bequest
  /** Listening descriptors, in the order of `bequest.listeners`. */
  readonly listeners: Int32Array
  /** Those of UDP sockets, in the order of `bequest.datagrams`. */
  readonly datagrams: Int32Array
  readonly record: Readonly<MessageOf<'transfer'>>
  readonly segments: readonly Uint8Array[]
  /** Descriptors of the connections, in the order of the record. */
  readonly fds: Int32Array
  /** How many connections of these listeners stay, and are served here until they end. */
  readonly staying: number
}

export type Bequest = Readonly<MessageOf<'bequest'>>

/** What was put. */
export interface Put {
  /** For the log: `the keeper, process 123, for 5 s`. */
  readonly where: string
  /** Where the connections are as data, and those that end all the same, by reason. */
  readonly saved?: { readonly file: string; readonly refused: ReadonlyMap<number, string> }
  /** The stop was meant as one: closes everything politely, now. Never throws. */
  discard(): void
  /** This process is about to end, and serves nothing any more of what it kept. */
  alone?(): void
}

/** What a holder has for this process, from `find` on. It stays the holder's until `commit`: if this process dies before, the next one finds it. */
export interface Held {
  readonly holder: HolderName
  readonly bequest: Bequest
  /** The descriptor for one of `bequest.listeners` or `bequest.datagrams`, which the caller then owns; at most once for each. `undefined`: it has none. */
  takeListener(key: string): number | undefined
  /** Brings everything here, or throws, and then the connections are still the holder's. Blocks. */
  open(): Opened
  /** From here everything is this process's alone; what it does not want it closes itself. Throws if it is not certain: then nothing may be touched. */
  commit(): void
  /** The connections flow, or are closed. */
  resumed(): void
  /** Lets go without having taken anything: the holder goes on holding, if it can. Never throws. */
  close(): void
}

export interface Opened {
  readonly record: Readonly<MessageOf<'transfer'>>
  readonly segments: readonly Uint8Array[]
  /** By connection; -1 for one of `failed`. The caller owns them. */
  readonly fds: readonly number[]
  /** Connections that the holder could not bring back, with the reason. */
  readonly failed: ReadonlyMap<number, string>
  /** Whether these are the kernel's own sockets of then: their counters say whether anything happened to them. A restored one counts from 0. */
  readonly sameSockets: boolean
}
