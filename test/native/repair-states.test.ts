import { join } from 'node:path'
import { expect, test } from 'vitest'
import {
  CONNECTION_COLUMN,
  CONNECTION_COLUMNS,
  CONNECTION_REFUSALS,
  RESTORE_STEPS,
  RESTORED_COLUMN,
  RESTORED_COLUMNS,
} from '../../src/native/repair.js'
import { describePrivileged } from '../helpers/privileged.js'
import { namespace } from './namespace.js'
import type { Family, Tools } from './namespace-tools.js'
import { native, temporaryFolder } from './native-under-test.js'

type State = 'CLOSE_WAIT' | 'FIN_WAIT1, FIN unsent' | 'FIN_WAIT1, FIN sent' | 'FIN_WAIT2'
interface Case {
  family: Family
  state: State
  inject: boolean
}

/** Both streams end after the restore as they would have without it. */
async function moveHalfClosed(tools: Tools, { family, state, inject }: Case) {
  const { native, until, patterned, lengthOf } = tools
  const it = await tools.connection(family, { clientReads: state !== 'FIN_WAIT1, FIN unsent' })
  const { fd, client } = it
  const toServer: Buffer[] = [patterned(30_000, 1)]
  const toClient: Buffer[] = []
  let clientSawEnd = false
  client.on('end', () => {
    clientSawEnd = true
  })
  let recovers = () => {}

  client.write(toServer[0] as Buffer)
  await until(() => tools.inspect(fd).receiveQueue === 30_000, 'unread bytes')
  if (state === 'CLOSE_WAIT') {
    client.pause()
    const content = patterned(40_000_000, 2)
    let written = 0
    await tools.settled(() => (written += tools.fill(fd, content.subarray(written))))
    toClient.push(content.subarray(0, written))
    client.end()
    await until(() => tools.inspect(fd).state === 8, 'CLOSE_WAIT')
  }
  if (state === 'FIN_WAIT1, FIN unsent') {
    const content = patterned(40_000_000, 3)
    let written = 0
    await tools.settled(() => (written += tools.fill(fd, content.subarray(written))))
    toClient.push(content.subarray(0, written))
    await tools.endStream(fd)
  }
  if (state === 'FIN_WAIT1, FIN sent') {
    recovers = tools.dropIncoming(it.port)
    toClient.push(patterned(10_000, 4))
    tools.fill(fd, toClient[0] as Buffer)
    await tools.endStream(fd)
    await until(() => clientSawEnd, 'the FIN to arrive')
  }
  if (state === 'FIN_WAIT2') {
    await tools.endStream(fd)
    await until(() => tools.inspect(fd).state === 5, 'FIN_WAIT2')
  }

  native.holdCreate()
  const counters = tools.watchPackets()
  const ports = Int32Array.of(it.port)
  native.holdAdd(ports, new Uint8Array(0), 10_000)
  recovers()
  const { row, restored, rest } = tools.move(fd, it.port, inject)
  const socket = tools.adopt(restored.fd)
  const serverGot = tools.collecting(socket)
  let serverSawEnd = false
  socket.on('end', () => {
    serverSawEnd = true
  })
  if (rest.length > 0) socket.write(rest)
  client.resume()

  if (state === 'CLOSE_WAIT') {
    toClient.push(patterned(50_000, 5))
    socket.write(toClient.at(-1) as Buffer)
    await until(() => lengthOf(it.clientGot) >= lengthOf(toClient), 'the client to get the rest')
  } else {
    if (state === 'FIN_WAIT1, FIN unsent') socket.end()
    toServer.push(patterned(50_000, 6))
    client.write(toServer.at(-1) as Buffer)
  }
  await until(() => lengthOf(serverGot) >= lengthOf(toServer), 'the server to get the rest')
  if (inject && state === 'CLOSE_WAIT') await until(() => serverSawEnd, 'the end of the stream')
  const seen = counters()
  const endSeenBeforeItsTime = state === 'CLOSE_WAIT' ? clientSawEnd : serverSawEnd
  if (state === 'CLOSE_WAIT') socket.end()
  else client.end()
  await tools.once(client, 'close')
  if (state !== 'CLOSE_WAIT') await until(() => serverSawEnd, 'the end of the stream at the server')
  it.server.close()
  socket.destroy()
  return {
    row,
    restored,
    seen,
    endSeenBeforeItsTime,
    clientSawEnd,
    clientGotAll: Buffer.concat(it.clientGot).equals(Buffer.concat(toClient)),
    serverGotAll: Buffer.concat(serverGot).equals(Buffer.concat(toServer)),
  }
}

const states: { state: State; saved: { state: number; ownFin: number; peerFin: number }; without: number; with: number }[] = [
  { state: 'CLOSE_WAIT', saved: { state: 8, ownFin: 0, peerFin: 1 }, without: 1, with: 8 },
  { state: 'FIN_WAIT1, FIN unsent', saved: { state: 4, ownFin: 1, peerFin: 0 }, without: 1, with: 1 },
  { state: 'FIN_WAIT1, FIN sent', saved: { state: 4, ownFin: 2, peerFin: 0 }, without: 4, with: 4 },
  { state: 'FIN_WAIT2', saved: { state: 5, ownFin: 2, peerFin: 0 }, without: 4, with: 5 },
]

describePrivileged('net-namespace', 'a half-closed connection that is saved, closed and restored', () => {
  const cases = states.flatMap((state) =>
    (['IPv4', 'IPv6', 'mapped'] as const).flatMap((family) => [true, false].map((inject) => ({ ...state, family, inject }))),
  )
  test.for(cases)('ends as it would have: $state, $family, injection $inject', async ({ saved, family, state, inject, ...restores }) => {
    const result = await (await namespace()).run(moveHalfClosed, { family, state, inject })
    const { row, restored, seen } = result
    expect(row).toMatchObject({ refusal: 0, ...saved })
    expect(restored).toMatchObject({ errno: 0, step: 0, state: inject ? restores.with : restores.without })
    expect(result).toMatchObject({ endSeenBeforeItsTime: false, clientSawEnd: true, clientGotAll: true, serverGotAll: true })
    expect(seen.rst).toBe(0)
    if (saved.ownFin === 0) expect(seen.fin).toBe(0)
  })
})

describePrivileged('net-namespace', 'a connection that is not restored', () => {
  test('is as it was when it leaves repair mode, bytes in both queues included', async () => {
    const result = await (await namespace()).run(async (tools) => {
      const { native, until, patterned, lengthOf } = tools
      const it = await tools.connection('IPv4', { clientReads: false })
      const fds = Int32Array.of(it.fd)
      const toServer = [patterned(100_000, 1)]
      it.client.write(toServer[0] as Buffer)
      await until(() => tools.inspect(it.fd).receiveQueue === 100_000)
      const content = patterned(40_000_000, 2)
      let written = 0
      await tools.settled(() => (written += tools.fill(it.fd, content.subarray(written))))
      const toClient = [content.subarray(0, written)]
      native.holdCreate()
      const counters = tools.watchPackets()
      native.holdAdd(Int32Array.of(it.port), new Uint8Array(0), 10_000)
      const figuresBefore = tools.inspect(it.fd)
      const entered = native.enterRepair(fds)
      const record = native.dumpConnections(fds, entered, true)
      native.holdRelease(Int32Array.of(it.port), new Uint8Array(0))
      const left = native.leaveRepair(fds, entered, true)
      const again = native.enterRepair(fds)
      native.leaveRepair(fds, again, false)
      const figuresAfter = tools.inspect(it.fd)
      const socket = tools.adopt(it.fd)
      const serverGot = tools.collecting(socket)
      it.client.resume()
      toClient.push(patterned(1000, 3))
      toServer.push(patterned(1000, 4))
      socket.write(toClient[1] as Buffer)
      it.client.write(toServer[1] as Buffer)
      await until(() => lengthOf(it.clientGot) >= lengthOf(toClient) && lengthOf(serverGot) >= lengthOf(toServer))
      return {
        left: [...left],
        entered: [...entered],
        again: [...again],
        queued: record.queues.length,
        refusal: tools.rowOf(record.figures).refusal,
        same: JSON.stringify(figuresBefore) === JSON.stringify(figuresAfter),
        seen: counters(),
        clientGotAll: Buffer.concat(it.clientGot).equals(Buffer.concat(toClient)),
        serverGotAll: Buffer.concat(serverGot).equals(Buffer.concat(toServer)),
      }
    }, null)
    expect(result).toMatchObject({ left: [0], entered: [1], again: [1], refusal: 0, same: true, seen: { fin: 0, rst: 0 } })
    expect(result).toMatchObject({ clientGotAll: true, serverGotAll: true })
    expect(result.queued).toBeGreaterThan(100_000)
  })

  test('leaves the others alone when it cannot be made, and says which step failed', async () => {
    const result = await (await namespace()).run(async (tools) => {
      const { native } = tools
      const [one, two] = [await tools.connection('IPv4'), await tools.connection('IPv4')]
      native.holdCreate()
      native.holdAdd(Int32Array.of(one.port, two.port), new Uint8Array(0), 10_000)
      const fds = Int32Array.of(one.fd, two.fd)
      const record = native.dumpConnections(fds, native.enterRepair(fds), true)
      // The first is still there.
      native.closeFds(Int32Array.of(two.fd))
      const before = native.fdLimits().open
      const results = native.restoreConnections(record.figures, record.tuples, record.names, record.queues, false)
      return { rows: [tools.restoredRow(results, 0), tools.restoredRow(results, 1)], opened: native.fdLimits().open - before }
    }, null)
    const [failed, made] = result.rows
    expect(failed).toMatchObject({ fd: -1, errno: 99 })
    expect(RESTORE_STEPS[failed?.step ?? 0]).toBe('connect')
    expect(made).toMatchObject({ errno: 0, step: 0, state: 1 })
    expect(result.opened).toBe(1)
  })

  test('makes no socket at all out of a record whose parts do not belong together', async () => {
    const errors = await (await namespace()).run(async (tools) => {
      const { native, values } = tools
      const it = await tools.connection('IPv4')
      tools.writeSync(it.fd, 'x')
      native.holdCreate()
      native.holdAdd(Int32Array.of(it.port), new Uint8Array(0), 10_000)
      const { figures, tuples, names, queues } = tools.dump(it.fd)
      const damaged = (column: keyof typeof values.CONNECTION_COLUMN, value: number) => {
        const copy = figures.slice()
        copy[values.CONNECTION_COLUMN[column]] = value
        return copy
      }
      const attempts = [
        () => native.restoreConnections(figures.subarray(1), tuples, names, queues, false),
        () => native.restoreConnections(figures, tuples.subarray(1), names, queues, false),
        () => native.restoreConnections(figures, tuples, names, new Uint8Array(queues.length + 1), false),
        () => native.restoreConnections(damaged('receiveQueue', -1), tuples, names, queues, false),
        () => native.restoreConnections(damaged('sent', 0.5), tuples, names, queues, false),
        () => native.restoreConnections(damaged('unsent', Number.NaN), tuples, names, queues, false),
      ]
      return attempts.map((attempt) => {
        try {
          attempt()
          return 'nothing'
        } catch (error) {
          return (error as NodeJS.ErrnoException).code
        }
      })
    }, null)
    expect(errors).toEqual(Array(6).fill('ERR_OUT_OF_RANGE'))
  })
})

test('dumpConnections and restoreConnections have as many columns as repair.ts names', () => {
  const { figures, tuples, names, queues } = native.dumpConnections(Int32Array.of(0), Int32Array.of(-1), true)
  expect(figures).toHaveLength(CONNECTION_COLUMNS)
  // The words of the window are eight columns of one name.
  expect(Object.values(CONNECTION_COLUMN)).toEqual([...Array(CONNECTION_COLUMNS).keys()].filter((column) => column < 19 || column > 25))
  expect(native.restoreConnections(figures, tuples, names, queues, false)).toHaveLength(RESTORED_COLUMNS)
  expect(Object.values(RESTORED_COLUMN)).toEqual([...Array(RESTORED_COLUMNS).keys()])
})

describePrivileged('net-namespace', 'dumpConnections refuses', () => {
  async function refusalOf(prepare: (tools: Tools) => Promise<number>) {
    const body = `async (tools) => {
      const fd = await (${prepare})(tools)
      const fds = Int32Array.of(fd)
      const entered = tools.native.enterRepair(fds)
      const row = tools.rowOf(tools.native.dumpConnections(fds, entered, true).figures)
      return { refusal: row.refusal, errno: row.errno, left: tools.native.leaveRepair(fds, entered, false)[0] }
    }`
    const { refusal, left } = (await (await namespace()).run(body as never, null)) as { refusal: number; left: number }
    expect(left).toBe(0)
    return CONNECTION_REFUSALS[refusal]
  }

  const cases: [string, (typeof CONNECTION_REFUSALS)[number], (tools: Tools) => Promise<number>][] = [
    ['what is no socket', 'not-tcp', async () => 0],
    ['a unix socket', 'not-tcp', async (tools) => tools.native.socketPair()[0]],
    ['a listener', 'state', async (tools) => tools.fdOf((await tools.connection('IPv4')).server as never)],
    [
      'a connection whose peer has reset it',
      'socket-error',
      async (tools) => {
        const { fd, client } = await tools.connection('IPv4')
        client.resetAndDestroy()
        await tools.until(() => tools.inspect(fd).state === 7)
        return fd
      },
    ],
    [
      'a connection that both sides have ended',
      'state',
      async (tools) => {
        const { fd, client } = await tools.connection('IPv4')
        client.end()
        await tools.until(() => tools.inspect(fd).state === 8)
        await tools.endStream(fd)
        return fd
      },
    ],
    [
      'a connection attempt',
      'state',
      async (tools) => {
        tools.shell('ip route add 192.0.2.0/24 dev lo')
        const socket = tools.net.connect(1, '192.0.2.1')
        await tools.until(() => tools.fdOf(socket) > 0 && tools.inspect(tools.fdOf(socket)).state === 2)
        return tools.fdOf(socket)
      },
    ],
  ]
  test.for(cases)('%s: %s', async ([, refusal, prepare]) => {
    expect(await refusalOf(prepare)).toBe(refusal)
  })

  const socketsOfPython: [string, (typeof CONNECTION_REFUSALS)[number], string][] = [
    ['a connection with urgent data', 'urgent-data', 'client.send(b"!", socket.MSG_OOB)'],
    ['a connection with a peek offset', 'peek-offset', 'server.setsockopt(socket.SOL_SOCKET, 42, 0)'],
    [
      'a connection with pages lent to the kernel',
      'zero-copy',
      'server.setsockopt(socket.SOL_SOCKET, 60, 1); server.setblocking(False); server.send(bytes(1 << 22))',
    ],
    ['an MPTCP connection', 'mptcp', 'protocol = 262'],
    ['a connection with a TCP-MD5 key', 'authenticated', 'protocol = 6; md5 = True'],
  ]
  test.for(socketsOfPython)('%s: %s', async ([, refusal, line]) => {
    const refused = await (await namespace()).run(
      async (tools, { script, path }) => {
        // Options and flags that Node cannot set are set by Python, which sends the connection here.
        const listener = tools.native.listenUnix(`${path}.private`, path, 1)
        const { spawn } = tools.childProcess
        const python = spawn('python3', ['-c', script, path], { stdio: 'inherit' })
        await tools.until(() => tools.native.pollReadable(Int32Array.of(listener), 0).length === 1, 'python')
        const channel = tools.native.acceptUnix(listener)
        const fd = tools.native.receiveMessage(channel, new Uint8Array(1), 10_000).fds[0] as number
        const fds = Int32Array.of(fd)
        const entered = tools.native.enterRepair(fds)
        const row = tools.rowOf(tools.native.dumpConnections(fds, entered, true).figures)
        tools.native.leaveRepair(fds, entered, false)
        python.kill()
        return row.refusal
      },
      { script: pythonScript(line), path: join(temporaryFolder(), 'fds') },
    )
    expect(CONNECTION_REFUSALS[refused]).toBe(refusal)
  })
})

function pythonScript(line: string): string {
  const [before, after] = line.startsWith('protocol') ? [line, ''] : ['protocol = 6', line]
  // struct tcp_md5sig of linux/tcp.h, for the peer 127.0.0.1.
  const key =
    "(socket.AF_INET.to_bytes(2, 'little') + bytes(2) + bytes([127, 0, 0, 1])).ljust(128, bytes(1)) + bytes([0, 0, 4, 0]) + bytes(4) + b'key!'.ljust(80, bytes(1))"
  const sign = line.includes('md5') ? `for each in (listener, client): each.setsockopt(6, 14, ${key})` : ''
  return `
import os, socket, sys, time
${before}
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
listener.bind(('127.0.0.1', 0))
listener.listen()
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
${sign}
client.connect(listener.getsockname())
server = listener.accept()[0]
${after}
time.sleep(0.1)
channel = socket.socket(socket.AF_UNIX)
channel.connect(sys.argv[1])
socket.send_fds(channel, [b'x'], [server.fileno()])
time.sleep(100)`
}
