import type { Server, Socket } from 'node:net'
import type * as verification from '../../src/native/native.js'
import type { Native } from '../../src/native/native.js'
import type * as repair from '../../src/native/repair.js'
import type { ConnectionRecord } from '../../src/native/repair.js'

type Constants = typeof verification & typeof repair
type Row<Columns> = { [Name in keyof Columns]: number }

export type Family = 'IPv4' | 'IPv6' | 'mapped'

/** A connection of which the test holds the accepted end as a descriptor that no event loop watches. */
export interface Connection {
  server: Server
  client: Socket
  port: number
  fd: number
  /** All that the client has got so far. */
  clientGot: Buffer[]
}

export type Tools = ReturnType<typeof makeTools>

/** What bodies of `Namespace.run` work with. Self-contained: its source is what travels. */
export function makeTools(native: Native, values: Constants, require: NodeJS.Require) {
  const { once } = require('node:events') as typeof import('node:events')
  const net = require('node:net') as typeof import('node:net')
  const { readSync, writeSync } = require('node:fs') as typeof import('node:fs')
  const childProcess = require('node:child_process') as typeof import('node:child_process')
  const nextTurn = () => new Promise((resolve) => setImmediate(resolve))

  async function until(condition: () => boolean, what = 'the condition'): Promise<void> {
    const end = performance.now() + 10_000
    while (!condition()) {
      if (performance.now() > end) throw new Error(`waited 10 s for ${what}`)
      await nextTurn()
    }
  }

  /** Bytes of which every stretch is different. */
  function patterned(length: number, seed: number): Buffer {
    const buffer = Buffer.alloc(length)
    for (let offset = 0; offset + 4 <= length; offset += 4) buffer.writeUInt32LE((offset * 4 + seed) >>> 0, offset)
    return buffer
  }

  async function connection(family: Family, options: { clientReads?: boolean } = {}): Promise<Connection> {
    const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true })
    server.listen({ host: family === 'IPv4' ? '127.0.0.1' : '::', port: 0 })
    await once(server, 'listening')
    const { port } = server.address() as import('node:net').AddressInfo
    const client = net.connect({ host: family === 'IPv6' ? '::1' : '127.0.0.1', port, allowHalfOpen: true, noDelay: true })
    const [[socket]] = await Promise.all([once(server, 'connection') as Promise<[Socket]>, once(client, 'connect')])
    const fd = native.duplicateFd(fdOf(socket))
    socket.destroy()
    await once(socket, 'close')
    const clientGot: Buffer[] = []
    client.on('data', (chunk) => clientGot.push(chunk))
    client.on('error', (error) => clientGot.push(Buffer.from(String(error))))
    if (options.clientReads === false) client.pause()
    return { server, client, port, fd, clientGot }
  }

  function fdOf(socket: Socket): number {
    return (socket as unknown as { _handle: { fd: number } })._handle.fd
  }

  /** Writes until the kernel takes no more; how much it took. */
  function fill(fd: number, content: Buffer): number {
    let written = 0
    try {
      while (written < content.length) written += writeSync(fd, content, written)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
    }
    return written
  }

  /** Waits until a number has stayed the same for some turns of the loop and some milliseconds: the windows are full. */
  async function settled(number: () => number): Promise<void> {
    let before = number()
    for (let same = 0; same < 30; same++) {
      await new Promise((resolve) => setTimeout(resolve, 3))
      const now = number()
      if (now !== before) same = 0
      before = now
    }
  }

  function named<Columns extends Record<string, number>>(columns: Columns, row: Float64Array): Row<Columns> {
    return Object.fromEntries(Object.entries(columns).map(([name, column]) => [name, row[column]])) as Row<Columns>
  }

  const inspect = (fd: number) => named(values.VERIFY_COLUMN, native.inspectTcp(Int32Array.of(fd)))
  const rowOf = (figures: Float64Array, index = 0) => named(values.CONNECTION_COLUMN, figures.subarray(index * values.CONNECTION_COLUMNS))
  const restoredRow = (results: Float64Array, index = 0) => named(values.RESTORED_COLUMN, results.subarray(index * values.RESTORED_COLUMNS))

  function shell(script: string): string {
    return childProcess.execFileSync('/bin/sh', ['-c', script], { encoding: 'utf8' })
  }

  /** Counts every FIN and RST that arrives anywhere in this namespace, before a packet hold could drop it; not what was injected. */
  function watchPackets(): () => { fin: number; rst: number } {
    shell(`nft -f - <<'END'
      table inet watch {
        counter fin {}
        counter rst {}
        chain pre {
          type filter hook prerouting priority -400;
          meta mark 0x74736e67 accept
          tcp flags & fin == fin counter name fin
          tcp flags & rst == rst counter name rst
        }
      }
END`)
    return () => {
      const counters = JSON.parse(shell('nft -j list counters table inet watch')).nftables as {
        counter?: { name: string; packets: number }
      }[]
      const packets = (name: string) => counters.find(({ counter }) => counter?.name === name)?.counter?.packets ?? Number.NaN
      return { fin: packets('fin'), rst: packets('rst') }
    }
  }

  /** What comes in for a port is dropped from here on: nothing sent is acknowledged. Returns how to end it. */
  function dropIncoming(port: number): () => void {
    shell(`nft 'table inet lossy { chain in { type filter hook prerouting priority -500; tcp dport ${port} drop; }; }'`)
    return () => {
      shell('nft delete table inet lossy')
    }
  }

  function dump(fd: number): ConnectionRecord {
    const entered = native.enterRepair(Int32Array.of(fd))
    return native.dumpConnections(Int32Array.of(fd), entered, true)
  }

  function restore(record: ConnectionRecord, inject: boolean) {
    return restoredRow(native.restoreConnections(record.figures, record.tuples, record.names, record.queues, inject))
  }

  function adopt(fd: number): Socket {
    return new net.Socket({ fd, readable: true, writable: true, allowHalfOpen: true })
  }

  /** Collects from now on; an error shows as what it says. */
  function collecting(socket: Socket): Buffer[] {
    const chunks: Buffer[] = []
    socket.on('data', (chunk) => chunks.push(chunk))
    socket.on('error', (error) => chunks.push(Buffer.from(String(error))))
    return chunks
  }

  /** shutdown(2) for writing, and waits until it is done. */
  async function endStream(fd: number): Promise<void> {
    const socket = new net.Socket({ fd: native.duplicateFd(fd), readable: false, writable: true, allowHalfOpen: true })
    socket.end()
    await once(socket, 'finish')
    socket.destroy()
  }

  /** Dump and silent close, then all of the restore up to ordinary operation, under a hold of the port. What is left to write is not written. */
  function move(fd: number, port: number, inject: boolean) {
    const ports = Int32Array.of(port)
    const none = new Uint8Array(0)
    native.holdCreate()
    native.holdAdd(ports, none, 10_000)
    const record = dump(fd)
    const row = rowOf(record.figures)
    native.closeFds(Int32Array.of(fd))
    const restored = restore(record, inject)
    native.holdRelease(ports, none)
    native.leaveRepair(Int32Array.of(restored.fd), Int32Array.of(row.reuseAddress), true)
    const rest = record.queues.subarray(row.receiveQueue + restored.sent)
    return { record, row, restored, rest }
  }

  const lengthOf = (chunks: Buffer[]) => chunks.reduce((sum, chunk) => sum + chunk.length, 0)

  return {
    native,
    values,
    net,
    once,
    readSync,
    writeSync,
    childProcess,
    until,
    patterned,
    connection,
    fdOf,
    fill,
    settled,
    inspect,
    rowOf,
    restoredRow,
    shell,
    watchPackets,
    dropIncoming,
    dump,
    restore,
    adopt,
    collecting,
    endStream,
    move,
    lengthOf,
  }
}
