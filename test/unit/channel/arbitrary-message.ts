import fc from 'fast-check'
import type { Received } from '../../../src/channel/codec.js'
import type { MessageOf, MessageType } from '../../../src/channel/messages.js'
import { CONNECTION_COLUMNS, TUPLE_BYTES } from '../../../src/native/repair.js'

const text = fc.string({ maxLength: 40 })
const count = fc.nat()
const number = fc.nat({ max: 2 ** 22 - 1 })
/** What a protocol may say of itself: nothing that msgpack gives back as something else. */
const plainData = fc.oneof(
  fc.constant(null),
  text,
  count,
  fc.array(fc.tuple(text, count), { maxLength: 3 }),
  fc.record({ head: text, last: fc.boolean() }),
)
const refused = fc.array(fc.tuple(number, text), { maxLength: 5 })
const counts = fc.array(fc.tuple(text, count), { maxLength: 5 })

/** One of each kind; the compiler asks for a new kind here. */
const plain: { [T in Exclude<MessageType, 'transfer' | 'fds' | 'ahead'>]: fc.Arbitrary<Omit<MessageOf<T>, 'type'>> } = {
  hello: fc.record({ protocolMin: count, protocolMax: count, pid: count, version: text, node: text, address: text, token: text }),
  welcome: fc.record({ protocol: count, pid: count, version: text, node: text, generation: count }),
  refused: fc.record({ code: text, reason: text }),
  claim: fc.record({ address: text }),
  listener: fc.record({ address: text, found: fc.boolean() }),
  ready: fc.record({
    claimed: fc.array(text),
    states: fc.array(fc.record({ scope: text, name: text, version: fc.integer(), migrates: fc.boolean() })),
    mode: fc.constantFrom('auto', 'atomic', 'rolling'),
    canary: fc.record({ connections: count, watch: count }),
    ahead: fc.boolean(),
  }),
  landed: fc.constant({}),
  ended: fc.record({ place: count }),
  prepare: fc.record({ connections: number, bytes: count, watch: count }),
  go: fc.constant({}),
  ack: fc.record({ refused }),
  nack: fc.record({ code: text, reason: text }),
  commit: fc.constant({}),
  abort: fc.record({ code: text, reason: text, again: fc.boolean() }),
  started: fc.record({ connections: fc.array(number) }),
  resumed: fc.constant({}),
  late: fc.record({ connection: number, kind: fc.constantFrom('write', 'end', 'destroy'), detail: plainData }),
  left: fc.constant({}),
  inquiry: fc.constant({}),
  status: fc.record({
    pid: count,
    version: text,
    node: text,
    program: text,
    name: text,
    uptime: count,
    generation: count,
    state: fc.constantFrom('serving', 'taking over', 'handing over', 'retired'),
    listeners: fc.array(text),
    moving: counts,
    staying: counts,
  }),
  come: fc.record({ address: text, reason: text }),
  well: fc.constant({}),
  gone: fc.record({ connections: fc.array(count) }),
  reload: fc.record({ timeout: count, env: fc.constantFrom('current', 'fresh'), canary: fc.record({ connections: count, watch: count }) }),
  save: fc.constant({}),
  saved: fc.record({ file: text, connections: count, ending: counts }),
  reloaded: fc.record({ successor: count, generation: count, moved: count, staying: counts, later: counts }),
  bequest: fc.record({
    pid: count,
    generation: count,
    version: text,
    node: text,
    leftAt: count,
    connections: number,
    listeners: fc.array(fc.record({ key: text, path: text, backlog: count })),
    shared: fc.array(text),
    slot: text,
    datagrams: fc.array(text),
  }),
}

export const MESSAGE_TYPES = [...Object.keys(plain), 'fds', 'ahead', 'transfer'] as MessageType[]

/** A message of one kind, with segments and descriptors as they may go with it. */
export function anyMessageOf(type: MessageType): fc.Arbitrary<Received> {
  if (type === 'transfer') return transfer
  const fds = fc.array(fc.nat(), { maxLength: 10 })
  if (type === 'fds') return fds.map((list) => ({ message: { type, count: list.length }, segments: [], fds: list }))
  if (type === 'ahead')
    return fc
      .tuple(number, fds)
      .map(([connections, list]) => ({ message: { type, connections, count: list.length }, segments: [], fds: list }))
  const segments = fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 3 })
  return fc
    .record({ fields: plain[type], segments, fds })
    .map(({ fields, ...rest }) => ({ message: { type, ...fields } as MessageOf<typeof type>, ...rest }))
}

export const anyMessage: fc.Arbitrary<Received> = fc.constantFrom(...MESSAGE_TYPES).chain(anyMessageOf)

const transfer: fc.Arbitrary<Received> = fc
  .record({ n: fc.integer({ min: 1, max: 6 }), segments: fc.array(fc.uint8Array({ maxLength: 20 }), { minLength: 1, maxLength: 4 }) })
  .chain(({ n, segments }) => {
    const connection = fc.nat({ max: n - 1 })
    const blob = fc.oneof(fc.uint8Array({ maxLength: 30 }), fc.nat({ max: segments.length - 1 }))
    const column = (width: number) => fc.uint8Array({ minLength: width * n, maxLength: width * n })
    return fc
      .record({
        base: count,
        more: count,
        servers: fc.array(text),
        server: column(2),
        flags: column(2),
        verify: column(24),
        timeouts: fc.array(fc.tuple(connection, count, count)),
        highWaterMarks: fc.array(fc.tuple(connection, count, count)),
        unread: fc.array(fc.tuple(connection, blob)),
        unsent: fc.array(fc.tuple(connection, blob)),
        graph: fc.uint8Array({ maxLength: 30 }),
        required: fc.array(fc.tuple(connection, text)),
        protocols: fc.array(fc.tuple(connection, text, plainData)),
        ahead: fc.option(column(4)),
        repair: fc.option(fc.record({ figures: column(CONNECTION_COLUMNS * 8), tuples: column(TUPLE_BYTES), names: fc.array(text) })),
      })
      .map(({ ahead, repair, ...fields }) => ({
        message: { type: 'transfer', count: n, ...fields, ...(ahead && { ahead }), ...(repair && { repair }) },
        segments,
        fds: [],
      }))
  })
