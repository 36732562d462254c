/**
 * One MQTT session arrives. Its first packet is read again, as of a client that comes back to a session which its broker has kept: it is authenticated, its
 * subscriptions are authorized and in place, nothing that it has had is sent again, and the answer, which it has had, is not sent. What its broker counts
 * goes on where it was.
 */
import { override } from '../override.js'
import { acknowledge } from '../websocket/sender.js'
import { type Client, keepsInMemory } from './aedes.js'
import type { FollowedBroker } from './broker.js'
import { CONNACK, PacketCutter, typeOf } from './packets.js'
import type { SessionState } from './session.js'

/** Resolves when it is the application's, or has ended. Nothing is read from it meanwhile, and what is published waits for it, for a while. */
export async function arrive(client: Client, broker: FollowedBroker, state: SessionState): Promise<'connected' | 'refused'> {
  client.pause()
  const unhold = override(client, { resume() {} })
  const undoAnswer = swallowAnswer(client)
  broker.begin()
  const end = once(() => broker.end())
  const limit = setTimeout(end, LONGEST_MS).unref()
  broker.arriving.set(state.id, state.subscriptions)
  const connected = comesBack(client)
  await broker.inherited
  readFirst(client, state)
  const outcome = await connected
  if (outcome === 'connected') goOn(client, state)
  broker.arriving.delete(state.id)
  clearTimeout(limit)
  end()
  undoAnswer()
  unhold()
  if (outcome === 'connected') client.resume()
  return outcome
}

async function comesBack(client: Client): Promise<'connected' | 'refused'> {
  return new Promise((resolve) => {
    client.once('connected', () => setImmediate(resolve, 'connected')) // when that packet is done with
    client.conn.once('close', () => resolve('refused'))
  })
}

function readFirst(client: Client, { id, connect }: SessionState): void {
  client._parser.prependOnceListener('packet', (packet: { clean: boolean; clientId: string }) => {
    packet.clean = false
    packet.clientId = id // its broker may have given it one
  })
  client._parsingBatch = 0 // it is no part of what is read from the connection
  client._parser.parse(connect)
}

function goOn(client: Client, { clean, nextId, incoming, partial }: SessionState): void {
  client.clean = clean
  client._nextId = nextId
  for (const messageId of incoming) {
    client._inboundInflight.add(messageId)
    if (keepsInMemory(client.broker)) void client.broker.persistence.incomingStorePacket(client, { messageId })
  }
  if (partial.length > 0) client._parser.parse(partial)
}

/** Whole packets go out as ever, but for the answer to the first one. */
function swallowAnswer({ conn }: Client): () => void {
  const cutter = new PacketCutter()
  const undo = override(conn, {
    write(chunk: string | Uint8Array, encoding?: BufferEncoding, ...rest: unknown[]) {
      let isRoomy = true
      for (const packet of cutter.push(typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk)) {
        if (typeOf(packet) !== CONNACK) isRoomy = Object.getPrototypeOf(conn).write.call(conn, packet)
      }
      acknowledge([encoding, ...rest])
      return isRoomy
    },
  } as never)
  return undo
}

function once(act: () => void): () => void {
  let isDone = false
  return () => {
    if (isDone) return
    isDone = true
    act()
  }
}

/** Longest that messages wait for one whom the new version takes its time to authenticate, ms. */
const LONGEST_MS = 5_000
