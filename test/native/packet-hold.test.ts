import { expect, test } from 'vitest'
import { TUPLE_BYTES } from '../../src/native/repair.js'
import { describePrivileged } from '../helpers/privileged.js'
import { namespace } from './namespace.js'
import { native, run, thrownBy } from './native-under-test.js'

describePrivileged('net-namespace', 'a packet hold', () => {
  test('is one table of ours, made once, and nothing else of the ruleset changes', async () => {
    const result = await (await namespace()).run((tools) => {
      const { native, shell } = tools
      shell(`nft 'table inet other { set ports { type inet_service; elements = { 22, 80 }; }; chain in { type filter hook input priority 0; tcp dport @ports accept; }; }'
             nft 'table ip tsunagi { chain in { type filter hook input priority 0; }; }'`)
      const before = shell('nft list ruleset')
      const created = [native.holdCreate(), native.holdCreate(), native.holdCreate()]
      const table = shell('nft -y list table inet tsunagi')
      const tables = shell('nft list tables')
      native.holdAdd(Int32Array.of(8080), new Uint8Array(0), 60_000)
      native.holdRelease(Int32Array.of(8080), new Uint8Array(0))
      const removed = [native.holdRemove(), native.holdRemove()]
      return { created, table, tables, removed, same: shell('nft list ruleset') === before }
    }, null)
    expect(result).toMatchObject({ created: [true, false, false], removed: [true, false], same: true })
    expect(result.tables.trim().split('\n')).toEqual(['table inet other', 'table ip tsunagi', 'table inet tsunagi'])
    expect(result.table.replaceAll('\t', '  ').trim()).toBe(TABLE)
  })

  test('is listed as nft lists it, ports and connections of either family', async () => {
    const { held, listed } = await (await namespace()).run(async (tools) => {
      const { native } = tools
      const connections = [await tools.connection('IPv4'), await tools.connection('IPv6'), await tools.connection('mapped')]
      const tuples = native.connectionTuples(Int32Array.from(connections, ({ fd }) => fd))
      native.holdCreate()
      native.holdAdd(Int32Array.of(8080, 443, 8080), tuples, 50_000)
      const peers = connections.map(({ client, port }) => `. ${port} . ${client.localAddress} . ${client.localPort}`)
      const text = tools.shell('nft -n list table inet tsunagi')
      const ofNft = [...peers, '443 timeout 50s', '8080 timeout 50s'].map((part) => text.includes(part))
      return { held: { ...native.holdList(), sent: tuples }, listed: ofNft }
    }, null)
    expect(listed).toEqual([true, true, true, true, true])
    expect([...held.ports].sort((a, b) => a - b)).toEqual([443, 8080])
    const rows = (bytes: Uint8Array) =>
      [0, 1, 2].map((row) => Buffer.from(bytes.subarray(row * TUPLE_BYTES, (row + 1) * TUPLE_BYTES)).toString('hex'))
    expect(rows(held.tuples).sort()).toEqual(rows(held.sent).sort())
    for (const left of [...held.portsLeftMs, ...held.tuplesLeftMs]) {
      expect(left).toBeGreaterThan(30_000)
      expect(left).toBeLessThanOrEqual(50_000)
    }
  })

  test.for(['IPv4', 'IPv6', 'mapped'] as const)('of one connection stops its packets both ways and no others: %s', async (family) => {
    const result = await (await namespace()).run(
      async (tools, { family }) => {
        const { native, until, lengthOf } = tools
        const [held, free] = [await tools.connection(family), await tools.connection(family)]
        native.holdCreate()
        const tuples = native.connectionTuples(Int32Array.of(held.fd))
        native.holdAdd(new Int32Array(0), tuples, 10_000)
        for (const { fd, client } of [held, free]) {
          tools.writeSync(fd, 'from the server')
          client.write('from the client')
        }
        await until(() => lengthOf(free.clientGot) === 15 && tools.inspect(free.fd).receiveQueue === 15)
        const during = [lengthOf(held.clientGot), tools.inspect(held.fd).receiveQueue]
        const released = [native.holdRelease(new Int32Array(0), tuples), native.holdRelease(new Int32Array(0), tuples)]
        await until(() => lengthOf(held.clientGot) === 15 && tools.inspect(held.fd).receiveQueue === 15)
        return { during, released }
      },
      { family },
    )
    expect(result).toEqual({ during: [0, 0], released: [1, 0] })
  })

  test('of a port stops its connections and drops new ones, which get through once it is over', async () => {
    const result = await (await namespace()).run(async (tools) => {
      const { native, until, lengthOf } = tools
      const it = await tools.connection('IPv4')
      const other = await tools.connection('IPv4')
      native.holdCreate()
      native.holdAdd(Int32Array.of(it.port), new Uint8Array(0), 10_000)
      let connected = false
      let failed = false
      const late = tools.net.connect(it.port, '127.0.0.1', () => {
        connected = true
      })
      late.on('error', () => {
        failed = true
      })
      it.client.write('x')
      other.client.write('x')
      await until(() => tools.inspect(other.fd).receiveQueue === 1 && tools.inspect(tools.fdOf(late)).state === 2)
      const during = { connected, failed, unread: tools.inspect(it.fd).receiveQueue }
      const released = native.holdRelease(Int32Array.of(it.port), new Uint8Array(0))
      await until(() => connected && tools.inspect(it.fd).receiveQueue === 1)
      late.destroy()
      return { during, released, failed, got: lengthOf(it.clientGot) }
    }, null)
    expect(result).toEqual({ during: { connected: false, failed: false, unread: 0 }, released: 1, failed: false, got: 0 })
  })

  test('ends by itself', async () => {
    const result = await (await namespace()).run(async (tools) => {
      const { native, until } = tools
      const it = await tools.connection('IPv4')
      native.holdCreate()
      const start = performance.now()
      native.holdAdd(Int32Array.of(it.port), native.connectionTuples(Int32Array.of(it.fd)), 300)
      it.client.write('x')
      await until(() => tools.inspect(it.fd).receiveQueue === 1)
      const took = performance.now() - start
      const { ports, tuples } = native.holdList()
      return { took, left: [ports.length, tuples.length], released: native.holdRelease(Int32Array.of(it.port), new Uint8Array(0)) }
    }, null)
    expect(result.took).toBeGreaterThan(290)
    expect(result).toMatchObject({ left: [0, 0], released: 0 })
  })

  test('begins its time anew when it is added again, shorter or longer', async () => {
    const left = await (await namespace()).run((tools) => {
      const { native } = tools
      native.holdCreate()
      return [5_000, 60_000, 20_000].map((timeoutMs) => {
        native.holdAdd(Int32Array.of(8080), new Uint8Array(0), timeoutMs)
        return native.holdList().portsLeftMs[0] as number
      })
    }, null)
    expect(left[0]).toBeLessThanOrEqual(5_000)
    expect(left[1]).toBeGreaterThan(50_000)
    expect(left[2]).toBeLessThanOrEqual(20_000)
    expect(left[2]).toBeGreaterThan(10_000)
  })

  test('of one holder is not touched when another releases its own, at the same time and again and again', async () => {
    const ns = await namespace()
    const result = await ns.run(
      async (tools, { addon }) => {
        const { native, childProcess, once } = tools
        native.holdCreate()
        native.holdAdd(Int32Array.of(1), new Uint8Array(0), 60_000)
        const script = `const native = require(process.argv[1])
        const ports = Int32Array.from({ length: 50 }, (_, index) => Number(process.argv[2]) + index)
        for (let round = 0; round < 20; round++) {
          native.holdCreate()
          native.holdAdd(ports, new Uint8Array(0), 1 + round % 7)
          native.holdAdd(ports, new Uint8Array(0), 60_000)
          if (native.holdRelease(ports, new Uint8Array(0)) !== 50) process.exit(3)
        }`
        const holders = [1000, 2000, 3000, 4000].map((from) =>
          childProcess.spawn(process.execPath, ['-e', script, addon, String(from)], { stdio: 'inherit' }),
        )
        const codes = await Promise.all(holders.map(async (holder) => (await once(holder, 'exit'))[0]))
        return { codes, left: [...native.holdList().ports], table: tools.shell('nft list table inet tsunagi | grep -c drop').trim() }
      },
      { addon: await run('console.log(Object.keys(require.cache).find((file) => file.endsWith(".node")))') },
    )
    expect(result).toEqual({ codes: [0, 0, 0, 0], left: [1], table: '6' })
  })

  test('takes 20,000 connections, in as many transactions as the socket takes', async () => {
    for (const kind of ['root', 'user'] as const) {
      const result = await (await namespace(kind)).run((tools) => {
        const { native, values } = tools
        const count = 20_000
        const tuples = new Uint8Array(count * values.TUPLE_BYTES)
        for (let row = 0; row < count; row++) {
          const tuple = Buffer.from(tuples.buffer, row * values.TUPLE_BYTES, values.TUPLE_BYTES)
          const ipv4 = row % 2 === 0
          for (const end of [0, 18]) {
            if (ipv4) tuple.fill(0xff, end + 10, end + 12)
            else tuple[end] = 0xfd
            tuple.writeUInt32BE(row + end, end + 12)
            tuple.writeUInt16BE(1 + (row % 60_000), end + 16)
          }
        }
        native.holdCreate()
        const times: Record<string, number> = {}
        const timed = <Result>(name: string, call: () => Result): Result => {
          const start = performance.now()
          const value = call()
          times[name] = Math.round((performance.now() - start) * 10) / 10
          return value
        }
        timed('add', () => native.holdAdd(new Int32Array(0), tuples, 60_000))
        timed('again', () => native.holdAdd(new Int32Array(0), tuples, 60_000))
        // While the kernel still moves so many elements to a larger table a listing misses some; it says so to nobody.
        let listed = 0
        for (let attempt = 0; attempt < 100 && listed !== count; attempt++) {
          listed = timed('list', () => native.holdList().tuplesLeftMs.length)
        }
        const released = timed('release', () => native.holdRelease(new Int32Array(0), tuples))
        return { listed, released, left: native.holdList().tuples.length, times }
      }, null)
      console.log(`20,000 connections held and released (${kind}), ms:`, JSON.stringify(result.times))
      expect(result).toMatchObject({ listed: 20_000, released: 20_000, left: 0 })
    }
  })

  test('says what is missing', async () => {
    const results = await (await namespace()).run((tools) => {
      const { native } = tools
      const thrown = (call: () => unknown) => {
        try {
          return call()
        } catch (error) {
          const { code, syscall, message } = error as NodeJS.ErrnoException
          return { code, syscall, message }
        }
      }
      return [
        thrown(() => native.holdAdd(Int32Array.of(1), new Uint8Array(0), 1000)),
        thrown(() => native.holdRelease(Int32Array.of(1), new Uint8Array(0))),
        thrown(() => native.holdList().ports.length),
      ]
    }, null)
    expect(results).toEqual([{ code: 'ENOENT', syscall: 'nftables', message: 'nftables ENOENT there is no table inet tsunagi' }, 0, 0])
  })

  test('needs CAP_NET_ADMIN, and says so', async () => {
    const output = await run(
      `const codes = [() => native.holdCreate(), () => native.holdAdd(Int32Array.of(1), new Uint8Array(0), 1), () => native.holdList()].map((call) => {
         try { call() } catch (error) { return error.message }
       })
       console.log(JSON.stringify([codes, [...native.enterRepair(Int32Array.of(0))]]))`,
      { shellBefore: 'exec setpriv --bounding-set=-all --inh-caps=-all --reuid=65534 --regid=65534 --clear-groups "$@"' },
    )
    const said = 'nftables EPERM holding packets needs CAP_NET_ADMIN in this network namespace'
    expect(JSON.parse(output)).toEqual([[said, said, said], [-95]])
  })
})

test('a hold of what is no port, of half a connection or without an end is refused before the kernel is asked', () => {
  const calls = [
    () => native.holdAdd(Int32Array.of(0), new Uint8Array(0), 1000),
    () => native.holdAdd(Int32Array.of(65_536), new Uint8Array(0), 1000),
    () => native.holdRelease(Int32Array.of(-1), new Uint8Array(0)),
    () => native.holdAdd(Int32Array.of(1), new Uint8Array(35), 1000),
    () => native.holdAdd(Int32Array.of(1), new Uint8Array(0), 0),
    () => native.holdAdd(Int32Array.of(1), new Uint8Array(0), -1),
  ]
  for (const call of calls) expect(thrownBy(call)).toMatchObject({ code: 'ERR_OUT_OF_RANGE' })
})

const TABLE = `table inet tsunagi {
  set ports {
    type inet_service
    timeout 1m
  }

  set t4 {
    type ipv4_addr . inet_service . ipv4_addr . inet_service
    timeout 1m
  }

  set t6 {
    type ipv6_addr . inet_service . ipv6_addr . inet_service
    timeout 1m
  }

  chain pre {
    type filter hook prerouting priority -300; policy accept;
    meta mark 0x74736e67 notrack accept
    tcp dport @ports drop
    ip daddr . tcp dport . ip saddr . tcp sport @t4 drop
    ip6 daddr . tcp dport . ip6 saddr . tcp sport @t6 drop
  }

  chain out {
    type filter hook output priority -300; policy accept;
    meta mark 0x74736e67 notrack accept
    tcp sport @ports drop
    ip saddr . tcp sport . ip daddr . tcp dport @t4 drop
    ip6 saddr . tcp sport . ip6 daddr . tcp dport @t6 drop
  }
}`
