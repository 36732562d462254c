import { once } from 'node:events'
import net, { type Server, type Socket } from 'node:net'
import { AttachedServer } from '../attached-server.js'
import { decode, encode } from '../channel/codec.js'
import type { MessageOf } from '../channel/messages.js'
import type { Installation } from '../installation.js'
import { fdOf } from '../native/net-internals.js'
import { resolveOptions } from '../options.js'
import type { Frozen } from '../predecessor/freeze.js'
import { snapshot } from '../predecessor/snapshot.js'
import { Landing } from './landing.js'
import { restore } from './restore.js'
import { resume } from './resume.js'

/**
 * Runs the way of a connection from one process to the next a few thousand times on throw-away connections of this process to itself, while the
 * predecessor still serves: code that runs for the first time takes five to ten times as long as it does from then on, and here clients wait for it.
 */
export async function warmUp(installation: Installation): Promise<void> {
  const server = net.createServer()
  const clients: Socket[] = []
  try {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const sockets = await connectPairs(server, clients)
    const attached = new AttachedServer(
      net.createServer((socket) => socket.on('data', ignore)),
      resolveOptions(),
    )
    attached.key = 'warm-up'
    const end = installation.env.now() + WARM_UP_MS
    for (let round = 0; round < ROUNDS && installation.env.now() < end; round++) {
      rehearse(installation, attached, sockets)
      await new Promise((resolve) => setImmediate(resolve))
    }
    for (const socket of sockets) socket.destroy()
  } catch (error) {
    // A network namespace without a loopback, or no descriptor to spare: the handover only takes a little longer.
    installation.env.log(`not warmed up: ${(error as Error).message}`)
  } finally {
    for (const client of clients) client.destroy()
    server.close()
  }
}

async function connectPairs(server: Server, clients: Socket[]): Promise<Socket[]> {
  const { port } = server.address() as net.AddressInfo
  const sockets: Socket[] = []
  while (sockets.length < PAIRS) {
    const client = net.connect(port, '127.0.0.1')
    client.on('error', ignore)
    clients.push(client)
    const [[socket]] = (await Promise.all([once(server, 'connection'), once(client, 'connect')])) as [[Socket], unknown]
    socket.on('error', ignore)
    sockets.push(socket)
  }
  return sockets
}

function rehearse(installation: Installation, attached: AttachedServer, sockets: readonly Socket[]): void {
  const { native } = installation.env
  const moving = sockets.map((socket) => ({ socket, fd: fdOf(socket), attached, rule: '' }))
  const frozen: Frozen = { moving, staying: [], waiting: [], servers: [attached], listeners: [], unclaimed: [] }
  const { record, segments } = snapshot(installation, frozen, 0)
  const received = decode(encode(record, segments))
  const landing = new Landing(native, sockets.length)
  landing.land(sockets.map((socket) => native.duplicateFd(fdOf(socket))))
  const arrived = { record: received.message as MessageOf<'transfer'>, segments: received.segments, landing }
  const restored = restore(installation, arrived, new Map([[attached.key, attached]]))
  const withoutFaults = { resumption: installation.resumption, env: { ...installation.env, fault: ignore } }
  resume(withoutFaults, restored, ignore)
  for (const { socket } of restored.connections) socket.destroy()
}

function ignore(): void {}

/** Together some thousand passes over each line, which is when V8 compiles it. */
const PAIRS = 48
const ROUNDS = 80
const WARM_UP_MS = 250
