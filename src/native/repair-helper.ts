import { TsunagiError } from '../errors.js'
import type { Native } from './native.js'
import type { PacketHolds } from './packet-hold.js'
import { CONNECTION_COLUMN, CONNECTION_COLUMNS, RESTORE_STEPS, RESTORED_COLUMN, RESTORED_COLUMNS, TUPLE_BYTES } from './repair.js'
import type { RepairPowers } from './repair-powers.js'

/**
 * The powers of a helper process, `tsunagi-repair` (addon/helper), which listens on the unix socket `path`: it has CAP_NET_ADMIN, and this process
 * need not. Each call is one or more requests and answers, and blocks. Descriptors are only lent: the helper closes its copies before it answers.
 *
 * It has no raw sockets: a connection whose peer has ended its stream comes back as one whose end the caller has to tell, and peers are woken
 * only where this process has CAP_NET_RAW itself.
 */
export function helperPowers(native: Native, path: string): RepairPowers {
  const ask = (request: Request) => new Conversation(native, path).ask(request)
  const enterRepair: RepairPowers['enterRepair'] = (fds) => ask({ operation: OPERATION.enter, fds }).numbers
  return {
    enterRepair,
    leaveRepair: (fds, entered, probe) => ask({ operation: OPERATION.leave, fds, numbers: entered, argument: probe ? 1 : 0 }).numbers,
    restoreConnections: (figures, tuples, names, queues) => restoreThrough({ native, enterRepair }, { figures, tuples, names, queues }),
    announceConnections: (figures, tuples) => native.announceConnections(figures, tuples),
    kickPeers: (figures, tuples) => native.kickPeers(figures, tuples),
    holdCreate: () => ask({ operation: OPERATION.holdCreate }).numbers[0] === 1,
    holdAdd(ports, tuples, timeoutMs) {
      ask({ operation: OPERATION.holdAdd, numbers: ports, tuples, argument: Math.trunc(timeoutMs) })
    },
    holdRelease: (ports, tuples) => sum(ask({ operation: OPERATION.holdRelease, numbers: ports, tuples }).numbers),
    holdList: () => toHolds(ask({ operation: OPERATION.holdList })),
  }
}

interface Request {
  operation: number
  fds?: Int32Array
  numbers?: Int32Array
  tuples?: Uint8Array
  argument?: number
}

interface Answer {
  numbers: Int32Array
  tuples: Uint8Array
}

/** One connection to the helper, closed after its last answer: a helper that was started again in between makes no difference. */
class Conversation {
  readonly #native: Native
  readonly #path: string
  readonly #fd: number

  constructor(native: Native, path: string) {
    this.#native = native
    this.#path = path
    try {
      this.#fd = native.connectUnix(path, TIMEOUT_MS)
    } catch (cause) {
      throw this.#unusable(`it cannot be reached: ${(cause as Error).message}`, cause)
    }
  }

  ask(request: Request): Answer {
    try {
      this.#checkPeer()
      const answers = request.fds ? this.#askAboutFds(request, request.fds) : this.#askInPieces(request)
      return {
        numbers: Int32Array.from(answers.flatMap(({ numbers }) => [...numbers])),
        tuples: Buffer.concat(answers.map(({ tuples }) => tuples)),
      }
    } finally {
      this.#native.closeFds(Int32Array.of(this.#fd))
    }
  }

  /** Descriptors of ours go only to a process of our own user, or of root. */
  #checkPeer(): void {
    const { uid } = this.#native.peerCredentials(this.#fd)
    if (uid !== 0 && uid !== process.geteuid?.()) throw this.#unusable(`it runs as user ${uid}, and this process as ${process.geteuid?.()}`)
  }

  /** What is no descriptor, such as -1 for a connection that is left out, is answered here. */
  #askAboutFds(request: Request, fds: Int32Array): Answer[] {
    const numbers = new Int32Array(fds.length).fill(request.operation === OPERATION.enter ? -EBADF : 0)
    const wanted = [...fds.keys()].filter((index) => (fds[index] as number) >= 0 && !((request.numbers?.[index] ?? 0) < 0))
    for (let at = 0; at < wanted.length; at += MAX_FDS) {
      const batch = wanted.slice(at, at + MAX_FDS)
      const of = (column: Int32Array) => Int32Array.from(batch, (index) => column[index] as number)
      const given = request.numbers && { numbers: of(request.numbers) }
      const answer = this.#exchange({ ...request, fds: of(fds), ...given })
      if (answer.numbers.length !== batch.length) throw this.#unusable('it answered for another number of sockets')
      batch.forEach((index, i) => {
        numbers[index] = answer.numbers[i] as number
      })
    }
    return [{ numbers, tuples: NO_BYTES }]
  }

  #askInPieces(request: Request): Answer[] {
    const { numbers = NO_NUMBERS, tuples = NO_BYTES } = request
    const answers: Answer[] = []
    const pieces = Math.max(1, Math.ceil(tuples.length / (MAX_TUPLES * TUPLE_BYTES)))
    for (let piece = 0; piece < pieces; piece++) {
      const start = piece * MAX_TUPLES * TUPLE_BYTES
      const some = tuples.subarray(start, start + MAX_TUPLES * TUPLE_BYTES)
      answers.push(this.#exchange({ ...request, numbers: piece === 0 ? numbers : NO_NUMBERS, tuples: some }))
    }
    return answers
  }

  #exchange({ operation, fds = NO_NUMBERS, numbers = NO_NUMBERS, tuples = NO_BYTES, argument = 0 }: Request): Answer {
    const header = Uint32Array.of(PROTOCOL, operation, fds.length || numbers.length, tuples.length / TUPLE_BYTES, argument)
    const chunks = [bytesOf(header), bytesOf(numbers), tuples].filter((chunk) => chunk.length > 0)
    this.#native.sendMessage(this.#fd, chunks, fds, TIMEOUT_MS)
    const [error = 0, numberCount = 0, tupleCount = 0] = new Int32Array(this.#receive(12))
    if (error !== 0) throw refused(error)
    const answer = new Int32Array(this.#receive(numberCount * 4))
    return { numbers: answer, tuples: new Uint8Array(this.#receive(tupleCount * TUPLE_BYTES)) }
  }

  #receive(length: number): ArrayBuffer {
    const whole = new Uint8Array(length)
    for (let at = 0; at < length; ) {
      const { bytes, fds } = this.#native.receiveMessage(this.#fd, whole.subarray(at), TIMEOUT_MS)
      this.#native.closeFds(Int32Array.from(fds))
      if (bytes === 0) throw this.#unusable('it closed the connection without an answer')
      at += bytes
    }
    return whole.buffer
  }

  #unusable(why: string, cause?: unknown): TsunagiError {
    return new TsunagiError('ERR_TSUNAGI_HELPER', `The repair helper at ${this.#path} cannot be used: ${why}.`, { cause })
  }
}

interface Saved {
  figures: Float64Array
  tuples: Uint8Array
  names: readonly string[]
  queues: Uint8Array
}

/** Sockets are made here and put into repair mode there; all else about restoring them asks for no privilege. */
function restoreThrough({ native, enterRepair }: { native: Native; enterRepair: RepairPowers['enterRepair'] }, saved: Saved): Float64Array {
  const results = restoreOnce({ native, enterRepair }, saved)
  const crowded = [...rowsOf(saved)].filter((row) => result(results, row, RESTORED_COLUMN.step) === RESTORE_STEPS.indexOf('receive-queue'))
  if (crowded.length === 0) return results
  // Those whose receive queue is larger than a buffer may be here: without it, the caller delivers it.
  const again = restoreOnce({ native, enterRepair }, withoutReceived(saved, crowded))
  crowded.forEach((row, i) => {
    results.set(again.subarray(i * RESTORED_COLUMNS, (i + 1) * RESTORED_COLUMNS), row * RESTORED_COLUMNS)
  })
  return results
}

function restoreOnce({ native, enterRepair }: { native: Native; enterRepair: RepairPowers['enterRepair'] }, saved: Saved): Float64Array {
  const { figures, tuples, names, queues } = saved
  const families = Int32Array.from(rowsOf(saved), (row) => (figure(saved, row, 'refusal') === 0 ? figure(saved, row, 'family') : 0))
  const fds = native.makeTcpSockets(families)
  try {
    enterRepair(fds)
  } catch (error) {
    native.closeFds(fds.filter((fd) => fd >= 0))
    throw error
  }
  return native.restoreInto(figures, tuples, names, queues, fds)
}

function withoutReceived(saved: Saved, rows: readonly number[]): Saved {
  const figures = new Float64Array(rows.length * CONNECTION_COLUMNS)
  const tuples: Uint8Array[] = []
  const queues: Uint8Array[] = []
  const wanted = new Set(rows)
  let at = 0
  for (const row of rowsOf(saved)) {
    const received = figure(saved, row, 'receiveQueue')
    const bytes = received + figure(saved, row, 'sent') + figure(saved, row, 'unsent')
    if (wanted.has(row)) {
      const start = tuples.length * CONNECTION_COLUMNS
      figures.set(saved.figures.subarray(row * CONNECTION_COLUMNS, (row + 1) * CONNECTION_COLUMNS), start)
      figures[start + CONNECTION_COLUMN.receiveQueue] = 0
      tuples.push(saved.tuples.subarray(row * TUPLE_BYTES, (row + 1) * TUPLE_BYTES))
      queues.push(saved.queues.subarray(at + received, at + bytes))
    }
    at += bytes
  }
  return { figures, tuples: Buffer.concat(tuples), names: saved.names, queues: Buffer.concat(queues) }
}

function* rowsOf({ figures }: Saved): Iterable<number> {
  for (let row = 0; row * CONNECTION_COLUMNS < figures.length; row++) yield row
}

function figure({ figures }: Saved, row: number, column: keyof typeof CONNECTION_COLUMN): number {
  return figures[row * CONNECTION_COLUMNS + CONNECTION_COLUMN[column]] as number
}

function result(results: Float64Array, row: number, column: number): number {
  return results[row * RESTORED_COLUMNS + column] as number
}

/** Ports and their times, the times of the connections: see Client::List of addon/helper/client.cc. */
function toHolds({ numbers, tuples }: Answer): PacketHolds {
  const held = tuples.length / TUPLE_BYTES
  const ports = (numbers.length - held) / 2
  return {
    ports: numbers.slice(0, ports),
    portsLeftMs: Float64Array.from(numbers.subarray(ports, 2 * ports)),
    tuples,
    tuplesLeftMs: Float64Array.from(numbers.subarray(2 * ports)),
  }
}

/** In the shape of the addon's own errors. */
function refused(errno: number): Error {
  const code = ERRNO_CODES[errno] ?? `errno ${errno}`
  const why = code === 'EACCES' ? ': a port below ip_unprivileged_port_start is held only when the helper was started with --port' : ''
  return Object.assign(new Error(`tsunagi-repair ${code}${why}`), { errno: -errno, code, syscall: 'tsunagi-repair' })
}

function sum(numbers: Int32Array): number {
  return numbers.reduce((total, number) => total + number, 0)
}

function bytesOf(column: Int32Array | Uint32Array): Uint8Array {
  return new Uint8Array(column.buffer, column.byteOffset, column.byteLength)
}

const NO_NUMBERS = new Int32Array()
const NO_BYTES = new Uint8Array()

/** addon/helper/protocol.h, whose numbers these are. */
const PROTOCOL = 0x74736801
const OPERATION = { enter: 1, leave: 2, holdCreate: 3, holdAdd: 4, holdRelease: 5, holdList: 6 } as const
const MAX_FDS = 252
const MAX_TUPLES = 4096
/** For one step of a conversation; the helper answers within microseconds, and a batch of holds within tens of milliseconds. */
const TIMEOUT_MS = 5000
const EBADF = 9
/** @note asm-generic/errno-base.h and errno.h: those a hold or repair mode meets. */
const ERRNO_CODES: Record<number, string> = {
  1: 'EPERM',
  2: 'ENOENT',
  13: 'EACCES',
  22: 'EINVAL',
  93: 'EPROTONOSUPPORT',
  95: 'ENOTSUP',
  97: 'EAFNOSUPPORT',
}
