import { once } from 'node:events'
import { connect, createServer, type ListenOptions, type Server, type ServerOpts, Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { onTestFinished } from 'vitest'

export interface TcpPair {
  server: Server
  /** The accepted end. */
  socket: Socket
  client: Socket
}

/** A server and one connection to it, closed when the test is over. Neither end reads before it is told to. */
export async function tcpPair(listen: ListenOptions = {}, connectHost?: string, options: ServerOpts = {}): Promise<TcpPair> {
  const server = createServer({ pauseOnConnect: true, ...options })
  const host = listen.host ?? '127.0.0.1'
  server.listen({ host, port: 0, ...listen })
  await once(server, 'listening')
  const client = connect({ host: connectHost ?? host, port: portOf(server) })
  const [[socket]] = await Promise.all([once(server, 'connection') as Promise<[Socket]>, once(client, 'connect')])
  onTestFinished(() => {
    client.destroy()
    socket.destroy()
    server.close()
  })
  return { server, socket, client }
}

export function portOf(server: Server): number {
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('not a TCP server')
  return address.port
}

export function fdOf(holder: Socket | Server): number {
  const { _handle: handle } = holder as unknown as { _handle: { fd: number } }
  return handle.fd
}

/** Runs turns of the event loop until something holds; the test's own timeout ends it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await nextTurn()
}

/** A byte goes to a peer and comes back: the event loop has polled its sockets at least twice when this returns. */
export async function loopHasPolled(): Promise<void> {
  const server = createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = connect(portOf(server), '127.0.0.1')
  client.write('x')
  await once(client, 'data')
  client.destroy()
  server.close()
}

/** Bytes of which every stretch is different, so that a lost, doubled or moved one shows. */
export function patterned(length: number): Buffer {
  const buffer = Buffer.alloc(length)
  for (let offset = 0; offset + 4 <= length; offset += 4) buffer.writeUInt32LE(offset, offset)
  return buffer
}

export async function collect(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of socket) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

export function adopt(fd: number): Socket {
  return new Socket({ fd, readable: true, writable: true })
}
