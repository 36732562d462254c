import { closeSync, fstatSync, fsyncSync, openSync, readFileSync, readSync, renameSync, rmSync, writeSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { addressName } from '../channel/rendezvous.js'
import { TsunagiError } from '../errors.js'
import type { SnapshotBody, SnapshotHead } from './snapshot-data.js'
import { decodeBody, decodeHead, encodeBody, encodeHead, type ReadHead } from './snapshot-format.js'
import type { StoredSnapshot } from './stored-files.js'

/** Where the process that listens at `key` in this network namespace saves. */
export function snapshotPath(directory: string, key: string): string {
  return join(directory, `${addressName(key)}.snapshot`)
}

/** Writes one snapshot aside; until `complete` has returned there is none. */
export class SnapshotWriter {
  readonly #path: string
  readonly #aside: string
  readonly #head: SnapshotHead
  #fd: number
  readonly #bodyStart: number

  /** Puts the head on disk: what the caller is about to hold can be released by whoever finds it. */
  constructor(path: string, head: SnapshotHead) {
    this.#path = path
    this.#aside = path.replace(/\.snapshot$/, '.partial')
    this.#head = head
    rmSync(this.#aside, { force: true }) // of a dead predecessor
    this.#fd = openSync(this.#aside, 'wx', 0o600)
    try {
      const bytes = encodeHead(head, 0)
      writeAll(this.#fd, [bytes], 0)
      this.#bodyStart = bytes.length
    } catch (error) {
      this.abandon()
      throw error
    }
  }

  /** Durable when it returns: the connections may be closed. */
  complete(body: SnapshotBody): void {
    const pieces = encodeBody(body)
    const bodyBytes = writeAll(this.#fd, pieces, this.#bodyStart)
    fsyncSync(this.#fd) // order matters: the head says that the body is there
    writeAll(this.#fd, [encodeHead(this.#head, bodyBytes)], 0)
    fsyncSync(this.#fd)
    renameSync(this.#aside, this.#path)
    syncDirectory(dirname(this.#path))
    this.#close()
  }

  /** The inverse of both. */
  abandon(): void {
    this.#close()
    for (const path of [this.#aside, this.#path]) rmSync(path, { force: true })
  }

  #close(): void {
    if (this.#fd >= 0) closeSync(this.#fd)
    this.#fd = -1
  }
}

/** The head of a stored snapshot. Throws ERR_TSUNAGI_SNAPSHOT, _SNAPSHOT_VERSION, _SNAPSHOT_OWNER. */
export function readHead(path: string): ReadHead {
  return withFile(path, (fd) => {
    const { size } = fstatSync(fd)
    for (let room = 64 * 1024; ; room *= 8) {
      const bytes = Buffer.alloc(Math.min(room, size))
      const came = readSync(fd, bytes, 0, bytes.length, 0)
      try {
        return decodeHead(bytes.subarray(0, came))
      } catch (error) {
        if (room >= size) throw error // a hold of 9,000 connections has a head of 330 KB
      }
    }
  })
}

/**
 * A snapshot that this process restores from. Of two that ask one gets it. If it dies before `spend` its sockets go with it, without a packet: the next one
 * may restore; after `spend` nobody can.
 */
export class Claim {
  readonly head: SnapshotHead
  #path: string
  readonly #bodyStart: number
  readonly #bodyBytes: number

  /** Throws ERR_TSUNAGI_SNAPSHOT_CLAIMED, and what `readHead` throws. */
  constructor(path: string) {
    this.#path = claimedPath(path)
    try {
      renameSync(path, this.#path)
    } catch (cause) {
      throw new TsunagiError('ERR_TSUNAGI_SNAPSHOT_CLAIMED', `Another process restores from ${path}, or has done so.`, {
        phase: 'restore',
        cause,
      })
    }
    const { head, bodyStart, bodyBytes } = readHead(this.#path)
    this.head = head
    this.#bodyStart = bodyStart
    this.#bodyBytes = bodyBytes
  }

  readBody(): SnapshotBody {
    return withFile(this.#path, (fd) => {
      let at = this.#bodyStart
      return decodeBody(this.#bodyBytes, (into) => {
        const came = readSync(fd, into, 0, Math.min(into.length, LARGEST_READ), at)
        at += came
        return came
      })
    })
  }

  /** From here on nobody restores from it. */
  spend(): void {
    const spent = this.#path.replace(/claimed$/, 'spent')
    renameSync(this.#path, spent)
    this.#path = spent
  }

  /** Nothing that it holds is held any more. */
  forget(): void {
    rmSync(this.#path, { force: true })
  }
}

export function removeSnapshot(path: string): void {
  rmSync(path, { force: true })
}

/** Whether a process is at work on it: the one that saves, or the one that restores. */
export function isInWork({ path, state }: StoredSnapshot, { bequest, started }: SnapshotHead): boolean {
  if (state === 'snapshot') return false
  if (state === 'partial') return started !== '' && startTimeOf(bequest.pid) === started
  const [pid, since] = basename(path).split('.')[1]?.split('-') ?? []
  return startTimeOf(Number(pid)) === since
}

/** When a process was started, '' for one that is dead: a pid alone may be used again. @note proc_pid_stat(5): field 22. */
export function startTimeOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' ? '' : (fields[19] ?? '')
  } catch {
    return ''
  }
}

/** The name says who has it. */
function claimedPath(path: string): string {
  return join(dirname(path), `${basename(path).split('.')[0]}.${process.pid}-${startTimeOf(process.pid)}.claimed`)
}

function withFile<Result>(path: string, use: (fd: number) => Result): Result {
  const fd = openSync(path, 'r')
  try {
    const { uid } = fstatSync(fd)
    const own = process.geteuid?.() ?? 0
    if (uid !== own) {
      throw new TsunagiError(
        'ERR_TSUNAGI_SNAPSHOT_OWNER',
        `${path} was written by uid ${uid}; this process runs as uid ${own} and takes nothing from it.`,
        {
          phase: 'restore',
        },
      )
    }
    return use(fd)
  } finally {
    closeSync(fd)
  }
}

function writeAll(fd: number, pieces: readonly Uint8Array[], from: number): number {
  let at = from
  for (const piece of pieces) {
    for (let written = 0; written < piece.length; ) {
      const bytes = writeSync(fd, piece, written, Math.min(piece.length - written, LARGEST_READ), at)
      written += bytes
      at += bytes
    }
  }
  return at - from
}

/** Without it the name may be lost although the contents are not. */
function syncDirectory(directory: string): void {
  const fd = openSync(directory, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** @note read(2) and write(2) move at most 0x7ffff000 bytes at once. */
const LARGEST_READ = 1 << 30
