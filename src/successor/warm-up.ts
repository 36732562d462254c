import { channel } from 'node:diagnostics_channel'
import { once } from 'node:events'
import net, { type Server, type Socket } from 'node:net'
import { AttachedServer } from '../attached-server.js'
import { CarriedState } from '../carry/carried-state.js'
import { decode, encode } from '../channel/codec.js'
import type { MessageOf } from '../channel/messages.js'
import { openAccount } from '../handover/account.js'
import type { Installation } from '../installation.js'
import { type Native, VERIFY_COLUMN, VERIFY_COLUMNS } from '../native/native.js'
import { fdOf } from '../native/net-internals.js'
import { resolveOptions } from '../options.js'
import type { Frozen } from '../predecessor/freeze.js'
import { snapshot } from '../predecessor/snapshot.js'
import { raw } from '../protocols/raw.js'
import { Landing } from './landing.js'
import { restore } from './restore.js'
import { resume } from './resume.js'

/**
 * Runs the way of a connection from one process to the next a few thousand times on throw-away connections of this process to itself, while the
 * predecessor still serves: code that runs for the first time takes five to ten times as long as it does from then on, and here clients wait for it.
 */
export async function warmUp(installation: Installation): Promise<void> {
  if (WATCHED_CHANNELS.some(({ hasSubscribers }) => hasSubscribers)) return // whoever watches sockets would take these for real ones
  const server = net.createServer()
  installation.exempt(server)
  const clients: Socket[] = []
  const sockets: Socket[] = []
  try {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    await connectPairs(server, clients, sockets)
    const attached = new AttachedServer(
      net.createServer((socket) => socket.on('data', ignore)),
      resolveOptions(),
    )
    attached.key = 'warm-up'
    const carried = new CarriedState() // of its own: what the application carries is not touched
    for (const socket of sockets) carried.carry(socket, 'session', initialState, {})
    const end = installation.env.now() + WARM_UP_MS
    for (let round = 0; round < ROUNDS && installation.env.now() < end; round++) {
      rehearse(installation, attached, sockets, carried)
      await new Promise((resolve) => setImmediate(resolve))
    }
  } catch (error) {
    // A network namespace without a loopback, or no descriptor to spare: the handover only takes a little longer.
    installation.env.log(`not warmed up: ${(error as Error).message}`)
  } finally {
    for (const socket of sockets) socket.destroy()
    for (const client of clients) client.destroy()
    server.close()
  }
}

async function connectPairs(server: Server, clients: Socket[], sockets: Socket[]): Promise<void> {
  const { port } = server.address() as net.AddressInfo
  while (sockets.length < PAIRS) {
    const client = net.connect(port, '127.0.0.1')
    client.on('error', ignore)
    client.resume()
    clients.push(client)
    const [[socket]] = (await Promise.all([once(server, 'connection'), once(client, 'connect')])) as [[Socket], unknown]
    socket.on('error', ignore)
    sockets.push(socket)
  }
}

function rehearse(
  { env, flow, protocols, resumption }: Installation,
  attached: AttachedServer,
  sockets: readonly Socket[],
  carried: CarriedState,
): void {
  const moving = sockets.map((socket) => ({ socket, fd: fdOf(socket), attached, protocol: raw, rule: '', place: -1 }))
  const frozen: Frozen = {
    moving,
    staying: [],
    waiting: [],
    servers: [attached],
    listeners: [],
    shared: [],
    datagrams: new Map(),
    unclaimed: [],
    ahead: undefined,
  }
  settleAccounts(env.native, sockets)
  const { record } = snapshot({ env, carried }, frozen, 0)
  const some: [number, Uint8Array][] = sockets.map((_, index) => [index, BYTES])
  const received = decode(encode({ ...record, unread: some, unsent: some }))
  const landing = new Landing(env.native)
  landing.expect(sockets.length)
  landing.land(sockets.map((socket) => env.native.duplicateFd(fdOf(socket))))
  try {
    const arrived = { record: received.message as MessageOf<'transfer'>, segments: received.segments, landing }
    const restored = restore({ carried, protocols, env }, arrived, new Map([[attached.key, attached]]))
    resume({ flow, resumption, env: { ...env, fault: ignore } }, restored, (connections) => encode({ type: 'started', connections }))
    for (const { socket } of restored.connections) {
      carried.carry(socket, 'session', initialState, {})
      socket.destroy()
    }
    for (const reason of restored.refused.values()) throw new Error(`it refused a connection of its own: ${reason}`)
  } finally {
    landing.dropAll()
  }
}

/** The rounds before wrote to these connections through other descriptors, of which their own handles know nothing. */
function settleAccounts(native: Native, sockets: readonly Socket[]): void {
  const figures = native.inspectTcp(Int32Array.from(sockets, fdOf))
  sockets.forEach((socket, index) => {
    const at = index * VERIFY_COLUMNS
    openAccount(socket, {
      consumed: figures[at + VERIFY_COLUMN.consumed] as number,
      produced: figures[at + VERIFY_COLUMN.produced] as number,
    })
  })
}

function initialState() {
  return { name: 'nobody', lines: 0, seen: [1, 2, 3], rooms: new Map([['lobby', new Set(['a', 'b'])]]) }
}

function ignore(): void {}

/** @note lib/net.js: what tracing tools subscribe to. */
const WATCHED_CHANNELS = ['net.server.socket', 'net.client.socket', 'tracing:net.server.listen:asyncStart'].map((name) => channel(name))
const BYTES = Buffer.alloc(64, 'w')
/** Together some thousand passes over each line, which is when V8 compiles it. */
const PAIRS = 48
const ROUNDS = 80
const WARM_UP_MS = 250
