import { expect, test } from 'vitest'
import { describePrivileged } from '../helpers/privileged.js'
import { namespace } from './namespace.js'
import { native, run, thrownBy } from './native-under-test.js'

const families = ['IPv4', 'IPv6', 'mapped'] as const

describePrivileged('net-namespace', 'kickPeers', () => {
  test.for(families)('makes a peer repeat at once what it would repeat a second later: %s', async (family) => {
    const waited = await (await namespace()).run(
      async (tools, { family }) => {
        const { native, until } = tools
        const it = await tools.connection(family)
        const ports = Int32Array.of(it.port)
        native.holdCreate()
        native.holdAdd(ports, new Uint8Array(0), 20_000)
        const record = tools.dump(it.fd)
        native.closeFds(Int32Array.of(it.fd))
        it.client.write('x')
        // It repeats after about 0.2, 0.4, 0.8, 1.6 and 3.2 s more: the last wait has begun when the timer was doubled four times.
        await until(() => Number(/backoff:(\d+)/.exec(tools.shell(`ss -tinH dport = :${it.port}`))?.[1] ?? 0) >= 4, 'the fourth repetition')
        const restored = tools.restore(record, true)
        native.holdRelease(ports, new Uint8Array(0))
        native.leaveRepair(Int32Array.of(restored.fd), Int32Array.of(1), true)
        const start = performance.now()
        let kicks = 0
        for (let round = 0; round < 4; round++) kicks += native.kickPeers(record.figures, record.tuples)
        await until(() => tools.inspect(restored.fd).receiveQueue === 1, 'the byte')
        return { kicks, ms: performance.now() - start }
      },
      { family },
    )
    expect(waited.kicks).toBe(4)
    expect(waited.ms).toBeLessThan(1_500)
  })
})

describePrivileged('net-namespace', 'announceConnections', () => {
  test.for(families)('sends one segment, which changes nothing: %s', async (family) => {
    const result = await (await namespace()).run(
      async (tools, { family }) => {
        const { native, until, lengthOf } = tools
        const it = await tools.connection(family)
        const { record, restored } = tools.move(it.fd, it.port, true)
        const counters = tools.watchPackets()
        tools.shell(
          `nft 'table inet seen { counter out {}; chain c { type filter hook prerouting priority 0; tcp sport ${it.port} counter name out; }; }'`,
        )
        const announced = native.announceConnections(record.figures, record.tuples)
        const seen = Number(/packets (\d+)/.exec(tools.shell('nft list counter inet seen out'))?.[1])
        tools.writeSync(restored.fd, 'still here')
        it.client.write('so am I')
        await until(() => lengthOf(it.clientGot) === 10 && tools.inspect(restored.fd).receiveQueue === 7)
        return { announced, seen, counters: counters() }
      },
      { family },
    )
    expect(result).toEqual({ announced: 1, seen: 1, counters: { fin: 0, rst: 0 } })
  })

  test('needs CAP_NET_RAW, and says so', async () => {
    const record = await (await namespace()).run(async (tools) => tools.dump((await tools.connection('IPv4')).fd), null)
    const output = await run(
      `const figures = Float64Array.from(${JSON.stringify([...record.figures].map((figure) => (Number.isNaN(figure) ? 0 : figure)))})
       const tuples = Uint8Array.from(${JSON.stringify([...record.tuples])})
       const said = ['announceConnections', 'kickPeers'].map((name) => { try { native[name](figures, tuples) } catch (error) { return error.code } })
       console.log(JSON.stringify(said))`,
      { shellBefore: 'exec setpriv --bounding-set=-all --inh-caps=-all --reuid=65534 --regid=65534 --clear-groups "$@"' },
    )
    expect(JSON.parse(output)).toEqual(['EPERM', 'EPERM'])
  })
})

test('waking takes figures and tuples of the same connections only', () => {
  for (const call of [native.announceConnections, native.kickPeers]) {
    expect(thrownBy(() => call(new Float64Array(1), new Uint8Array(36)))).toMatchObject({ code: 'ERR_OUT_OF_RANGE' })
  }
})
