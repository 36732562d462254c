import { Packr, Unpackr } from 'msgpackr'
import { TsunagiError } from '../errors.js'
import { TUPLE_BYTES } from '../native/repair.js'
import type { Frame } from './frame.js'
import type { Message, MessageOf, MessageType } from './messages.js'
import type { RepairFigures } from './record.js'

/**
 * The only place that turns messages into bytes and back. Decoding trusts nothing: every field is checked for its kind and every
 * count against its cap before a message leaves this file typed. Unknown fields are ignored, so that newer code may append some.
 */
export interface Received {
  message: Message
  segments: readonly Uint8Array[]
  fds: readonly number[]
}

const packr = new Packr({ useRecords: false, variableMapSize: true })
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true })

/** Encodes one message; `segments` go along raw, `fds` by their order. */
export function encode(message: Message, segments: readonly Uint8Array[] = [], fds: readonly number[] = []): Frame {
  return { payload: packr.pack(message), segments, fds }
}

/** Decodes a frame, or throws ERR_TSUNAGI_MESSAGE naming the field. The caller still owns the frame's descriptors then. */
export function decode(frame: Frame): Received {
  let value: unknown
  try {
    value = unpackr.unpack(frame.payload as Buffer)
  } catch (cause) {
    throw malformed('it is not msgpack', cause)
  }
  const type = isObject(value) ? value['type'] : undefined
  if (typeof type !== 'string' || !Object.hasOwn(SHAPES, type))
    throw malformed(`its type is ${typeof type === 'string' ? JSON.stringify(type) : type === undefined ? 'missing' : `a ${typeof type}`}`)
  const shape: Shape = SHAPES[type as MessageType]
  const appended: Record<string, unknown> = APPENDED[type as keyof typeof APPENDED] ?? {}
  const fields = value as Record<string, unknown>
  for (const field of Object.keys(shape)) {
    if (fields[field] === undefined && Object.hasOwn(appended, field)) fields[field] = structuredClone(appended[field])
    else if (!shape[field]?.(fields[field], frame)) throw malformed(`${type}.${field} has a wrong value`)
  }
  checkColumns(value as Message, frame)
  return { message: value as Message, segments: frame.segments, fds: frame.fds }
}

type Check = (value: unknown, frame: Frame) => boolean
type Shape = Record<string, Check>

const MAX_CONNECTIONS = 2 ** 22
const MAX_TEXT = 4096

const text: Check = (value) => typeof value === 'string' && value.length <= MAX_TEXT
const flag: Check = (value) => typeof value === 'boolean'
const bytes: Check = (value) => value instanceof Uint8Array
/** Whose kind only somebody else knows: it is looked at there. */
const anything: Check = () => true
const count: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0
const integer: Check = (value) => Number.isSafeInteger(value)
const connection: Check = (value) => count(value, NO_FRAME) && (value as number) < MAX_CONNECTIONS
const blob: Check = (value, frame) => bytes(value, frame) || (count(value, frame) && (value as number) < frame.segments.length)
const oneOf =
  (...values: string[]): Check =>
  (value) =>
    values.includes(value as string)
const list =
  (check: Check, cap = MAX_CONNECTIONS): Check =>
  (value, frame) =>
    Array.isArray(value) && value.length <= cap && value.every((item) => check(item, frame))
const tuple =
  (...checks: Check[]): Check =>
  (value, frame) =>
    Array.isArray(value) && value.length >= checks.length && checks.every((check, i) => check(value[i], frame))
const optional =
  (check: Check): Check =>
  (value, frame) =>
    value === undefined || check(value, frame)
const object =
  (shape: Shape): Check =>
  (value, frame) =>
    isObject(value) && Object.keys(shape).every((field) => shape[field]?.(value[field], frame))

const canary: Shape = { connections: count, watch: count }
const NO_FRAME: Frame = { payload: new Uint8Array(), segments: [], fds: [] }

const SHAPES = {
  hello: { protocolMin: count, protocolMax: count, pid: count, version: text, node: text, address: text, token: text },
  welcome: { protocol: count, pid: count, version: text, node: text, generation: count },
  refused: { code: text, reason: text },
  claim: { address: text },
  listener: { address: text, found: flag },
  ready: {
    claimed: list(text, 10_000),
    states: list(object({ scope: text, name: text, version: integer, migrates: flag }), 10_000),
    mode: oneOf('auto', 'atomic', 'rolling'),
    canary: optional(object(canary)),
    ahead: flag,
  },
  ahead: { connections: connection, count },
  landed: {},
  ended: { place: count },
  prepare: { connections: connection, bytes: count, watch: optional(count) },
  go: {},
  fds: { count },
  transfer: {
    count: connection,
    base: count,
    more: count,
    servers: list(text, 10_000),
    server: bytes,
    flags: bytes,
    verify: bytes,
    timeouts: list(tuple(connection, count, count)),
    highWaterMarks: list(tuple(connection, count, count)),
    unread: list(tuple(connection, blob)),
    unsent: list(tuple(connection, blob)),
    graph: bytes,
    required: list(tuple(connection, text)),
    protocols: list(tuple(connection, text, anything)),
    ahead: optional(bytes),
    repair: optional(object({ figures: bytes, tuples: bytes, names: list(text, 10_000) })),
  },
  ack: { refused: list(tuple(connection, text)) },
  nack: { code: text, reason: text },
  commit: {},
  abort: { code: text, reason: text, again: flag },
  started: { connections: list(connection) },
  resumed: {},
  late: { connection: count, kind: oneOf('write', 'end', 'destroy'), detail: anything },
  left: {},
  inquiry: {},
  status: {
    pid: count,
    version: text,
    node: text,
    program: text,
    name: text,
    uptime: count,
    generation: count,
    state: oneOf('serving', 'taking over', 'handing over', 'retired'),
    listeners: list(text, 10_000),
    moving: list(tuple(text, count), 10_000),
    staying: list(tuple(text, count), 10_000),
  },
  come: { address: text, reason: optional(text) },
  well: {},
  gone: { connections: list(count) },
  reload: { timeout: count, env: oneOf('current', 'fresh'), canary: optional(object(canary)) },
  save: {},
  saved: { file: text, connections: count, ending: list(tuple(text, count), 10_000) },
  reloaded: {
    successor: count,
    generation: count,
    moved: count,
    staying: list(tuple(text, count), 10_000),
    later: list(tuple(text, count), 10_000),
  },
  bequest: {
    pid: count,
    generation: count,
    version: text,
    node: text,
    leftAt: count,
    connections: connection,
    listeners: list(object({ key: text, path: text, backlog: count }), 10_000),
    ledger: optional(object({ rowBytes: count, servers: list(text, 10_000) })),
    shared: list(text, 10_000),
    slot: text,
    datagrams: list(text, 10_000),
  },
} satisfies Record<MessageType, Shape>

/** Fields that were appended later, with what a peer means that does not send them. */
const APPENDED = {
  ready: { ahead: false },
  transfer: { protocols: [] },
  late: { detail: null },
  reloaded: { later: [] },
  bequest: { shared: [], slot: '', datagrams: [] },
} satisfies { [T in MessageType]?: Partial<MessageOf<T>> }

/** What one field's check cannot see: columns of the announced length, indexes that exist, descriptors that were announced. */
function checkColumns(message: Message, frame: Frame): void {
  if ((message.type === 'fds' || message.type === 'ahead') && message.count !== frame.fds.length)
    throw malformed(`${message.type}.count is ${message.count}, ${frame.fds.length} came`)
  if (message.type !== 'transfer') return
  const n = message.count
  if (message.server.length !== 2 * n || message.flags.length !== 2 * n || message.verify.length !== 24 * n) {
    throw malformed('the columns of transfer are not as long as its count says')
  }
  if (message.ahead && message.ahead.length !== 4 * n) throw malformed('the places of transfer.ahead are not of its connections')
  if (message.repair && !areRows(message.repair, n)) throw malformed('the figures of transfer.repair are not of its connections')
  for (const column of [message.timeouts, message.highWaterMarks, message.unread, message.unsent, message.required, message.protocols]) {
    if (column.some(([index]) => index >= n)) throw malformed('transfer names a connection beyond its count')
  }
}

function areRows({ figures, tuples }: RepairFigures, count: number): boolean {
  const rows = tuples.length / TUPLE_BYTES
  return Number.isInteger(rows) && rows > 0 && rows <= count && figures.length % (8 * rows) === 0
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function malformed(what: string, cause?: unknown): TsunagiError {
  return new TsunagiError('ERR_TSUNAGI_MESSAGE', `A message from the other process was not accepted: ${what}.`, { cause })
}
