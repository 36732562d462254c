import { describe, expect, it } from 'vitest'
import { pattern, patternText } from '../fixtures/pattern.mjs'
import { Client } from '../helpers/client.js'
import { expectPage, table } from '../helpers/generated-page.js'
import { missingNodes, NODES, type NodeBinary } from '../helpers/nodes.js'
import { Line, type ServerProcess } from '../helpers/process.js'

/** One pair of processes while it is tested. */
interface Pair {
  readonly predecessor: ServerProcess
  successor: ServerProcess
}

/** A connection in one state: what the client does before the handover, and what must be so after it. */
interface State {
  readonly name: string
  /** For the page. */
  readonly what: string
  readonly idle?: true
  /** What the client has seen of the connection's end when all is done. */
  readonly seen?: readonly string[]
  before?(client: Client, pair: Pair): Promise<void>
  after(client: Client, pair: Pair): Promise<void>
}

const text = Buffer.from(patternText(30_000))
/** Not a whole character: the decoder of setEncoding holds its beginning. */
const cut = text.lastIndexOf('😀', 20_000) + 2
const TIMEOUT = 1_000

const STATES: readonly State[] = [
  {
    name: 'unread',
    what: 'bytes in Node\'s buffer, unread, under `setEncoding("utf8")`, the last character cut in two',
    async before(client, { predecessor }) {
      client.send(text.subarray(0, cut))
      await predecessor.until('unread')
    },
    async after(client) {
      client.send(text.subarray(cut))
      await client.expect(text)
    },
  },
  {
    name: 'unsent',
    what: '5 MB written to a client that does not read',
    idle: true,
    after: (client) => client.expect(pattern(5_000_000, 1)),
  },
  { name: 'corked', what: '20 writes under `cork()` that is never undone', after: (client) => client.expect(pattern(200_000, 2)) },
  {
    name: 'echo',
    what: 'piped into itself, with a client that has sent 3 MB and reads nothing',
    idle: true,
    before: async (client) => client.send(pattern(3_000_000, 3)),
    async after(client) {
      await client.expect(pattern(3_000_000, 3))
      client.send('and more')
      await client.expect('and more')
    },
  },
  {
    name: 'ended by the client',
    seen: ['end', 'close'],
    what: "half-closed by the client: the application has had its 'end'",
    async before(client, { predecessor }) {
      client.end()
      await predecessor.until('end')
    },
    async after(client, { successor }) {
      await client.expect('a last word of the successor\n')
      await client.closed()
      expect(successor.all('end')).toEqual([])
    },
  },
  {
    name: 'ended by the server',
    seen: ['end'],
    what: 'half-closed by the server',
    async before(client) {
      await client.expect('that is all\n')
      await client.expectEnd()
    },
    async after(client, { successor }) {
      client.send('still here')
      await successor.until('data', (told) => told['text'] === 'still here')
    },
  },
  {
    name: 'carried',
    what: 'carried state of the connection and of the server, with a Map, a Set, a Date, a BigInt and shared references',
    async after(client) {
      client.send('?')
      await client.expect('successor true 1,2 0 1180591620717411303424\n')
    },
  },
  { name: 'timeout', what: '`setTimeout` that was running', after: (client) => client.expect('timed out in the successor\n') },
  {
    name: 'late',
    what: 'a handler that awaits, and writes when the connection has moved',
    async before(client, { predecessor }) {
      client.send('work')
      await predecessor.until('working')
    },
    async after(client, { predecessor }) {
      predecessor.tell('finish')
      await client.expect('done by the predecessor\n')
    },
  },
]

/** Predecessor's major version, successor's, and how many states came over. */
const outcomes: { predecessor: string; successor: string; moved: number }[] = []

const missing = missingNodes()
const pairs = NODES.flatMap((predecessor) =>
  NODES.map((successor) => [predecessor.major, successor.major, predecessor, successor] as const),
)

if (missing && process.env['CI'] === 'true') {
  it('has every version of Node', () => expect.fail(missing))
} else if (missing) {
  process.stderr.write(`skipped: the version matrix: ${missing}\n`)
}

describe.skipIf(missing !== '')('every connection goes on, whatever it is in the middle of', () => {
  it.each(pairs)('from Node %s to Node %s', async (_from, _to, predecessor, successor) => {
    const failures = await handOver(predecessor, successor)
    outcomes.push({ predecessor: predecessor.major, successor: successor.major, moved: STATES.length - failures.length })
    expect(failures).toEqual([])
  })

  it.skipIf(NODES[0]?.major !== '20')('is what docs/versions.md says', () => {
    expect(outcomes).toHaveLength(pairs.length)
    const page = versionsPage()
    process.stdout.write(`${page}\n`)
    expectPage('versions.md', page)
  })
})

/** One handover with a connection in each state; returns what went wrong. */
async function handOver(from: NodeBinary, to: NodeBinary): Promise<string[]> {
  const mode = { unread: 'unread\n'.length + cut, timeout: TIMEOUT }
  const line = await Line.start('states.mjs', { command: [from.path], mode: { ...mode, name: 'predecessor' } })
  const pair: Pair = { predecessor: line.current, successor: line.current }
  const { predecessor } = pair
  const clients = new Map<State, Client>()
  for (const state of STATES) {
    const client = await Client.connect(line.port, { idle: state.idle ?? false })
    clients.set(state, client)
    client.send(`${state.name}\n`)
    await predecessor.until('connection', (told) => told['name'] === state.name)
    await state.before?.(client, pair)
  }

  const successor = line.launch({ command: [to.path], mode: { ...mode, name: 'successor', hold: true } })
  pair.successor = successor
  await successor.until('booted')
  predecessor.tell('arm')
  successor.tell('ready')
  await successor.until('serving')
  const report = await predecessor.until('handover')
  expect(report).toMatchObject({ moved: STATES.length, stayed: [] })
  successor.tell('go')

  const failures: string[] = []
  for (const [{ name, after, seen = [] }, client] of clients) {
    await after(client, pair).catch((error: Error) => failures.push(`${name}: ${error.message}`))
    if (client.seen.join() !== seen.join()) failures.push(`${name}: the client saw ${client.seen.join(', ')}`)
  }
  const newcomer = await Client.connect(line.port)
  newcomer.send('echo\n')
  await successor.until('connection', (told) => told['name'] === 'echo')
  newcomer.send('hello')
  await newcomer.expect('hello')
  const { code } = await predecessor.exited
  if (code !== 0) failures.push(`the predecessor left with ${code}: ${predecessor.stderr}`)
  return failures
}

function versionsPage(): string {
  const majors = NODES.map(({ major }) => major)
  const cell = (predecessor: string, successor: string) =>
    `${outcomes.find((outcome) => outcome.predecessor === predecessor && outcome.successor === successor)?.moved} of ${STATES.length}`
  const matrix = table(
    ['from ↓ to →', ...majors.map((major) => `Node ${major}`)],
    majors.map((predecessor) => [`Node ${predecessor}`, ...majors.map((successor) => cell(predecessor, successor))]),
  )
  const states = STATES.map(({ what }, i) => `${i + 1}. ${what}`).join('\n')
  return `<!-- Written by \`npm run docs\` from what test/e2e/versions.test.ts finds. -->
# Versions

A reload may bring another version of Node along, a newer or an older one. Each pair below is tested with one connection in each of
${STATES.length} states at once. A figure says how many of them went on byte by byte, with no sign to the client:

${matrix}

The states:

${states}

The versions are the ones in test/nodes/package.json, and Node 20.
`
}
