import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { MessageOf } from '../channel/messages.js'
import { connectPeer, type Peer } from '../channel/peer.js'
import { controlDirectory } from '../channel/rendezvous.js'
import { type Native, requireNative } from './require-native.js'

/** A process with servers, and the way to it. */
export interface FoundServer {
  readonly status: MessageOf<'status'>
  readonly peer: Peer
}

/**
 * Every process of this user that can be asked, once each: it has a control socket for each of its addresses. What does not answer is told by `onSilent`.
 * The caller closes the peers.
 */
export function findServers(onSilent: (path: string, reason: string) => void): FoundServer[] {
  const native = requireNative()
  const directory = controlDirectory()
  const found = new Map<number, FoundServer>()
  for (const name of readdirSync(directory)) {
    if (name.startsWith('.') || !name.endsWith('.sock')) continue
    const server = ask(native, join(directory, name), onSilent)
    if (server === undefined) continue
    if (found.has(server.status.pid)) close(server)
    else found.set(server.status.pid, server)
  }
  return [...found.values()].sort((a, b) => a.status.pid - b.status.pid)
}

export function close({ peer }: FoundServer): void {
  peer.channel.close()
  peer.closePidfd()
}

function ask(native: Native, path: string, onSilent: (path: string, reason: string) => void): FoundServer | undefined {
  let peer: Peer
  try {
    peer = connectPeer(native, path, ANSWER_MS)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code !== 'ECONNREFUSED' && code !== 'ENOENT') onSilent(path, message) // a dead process's file is harmless
    return undefined
  }
  try {
    if (peer.credentials.uid !== process.geteuid?.()) throw new Error(`its process runs as uid ${peer.credentials.uid}`)
    peer.channel.send({ type: 'inquiry' }, { timeoutMs: ANSWER_MS })
    const received = peer.channel.expect('status', ANSWER_MS)
    if (received) return { status: received.message, peer }
    throw new Error(`process ${peer.credentials.pid} did not answer within ${ANSWER_MS} ms: it is stopped or very busy`)
  } catch (error) {
    onSilent(path, (error as Error).message)
    peer.channel.close()
    peer.closePidfd()
    return undefined
  }
}

const ANSWER_MS = 2_000
