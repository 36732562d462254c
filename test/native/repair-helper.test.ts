import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { helperPowers } from '../../src/native/repair-helper.js'
import { describePrivileged } from '../helpers/privileged.js'
import { HELPER, RepairHelper } from '../helpers/repair-helper.js'
import { namespace } from './namespace.js'
import { native } from './native-under-test.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const isRoot = process.getuid?.() === 0

/** In a network namespace of its own. */
async function startHelper(...options: string[]): Promise<RepairHelper> {
  const { pid, run } = await namespace()
  // Room for a receive queue that nobody else has: an ordinary user's buffers are smaller.
  await run((tools) => tools.shell('echo 4096 16777216 33554432 > /proc/sys/net/ipv4/tcp_rmem'), null)
  return RepairHelper.start(pid, ...options)
}

async function scenario(helper: RepairHelper, name: string): Promise<unknown> {
  const child = helper.run(process.execPath, '--import', 'tsx', join(ROOT, 'test/fixtures/through-helper.ts'), name)
  const [output] = await Promise.all([text(child.stdout as NodeJS.ReadableStream), once(child, 'close')])
  if (output === '') throw new Error(`${name} ended with ${child.signalCode ?? child.exitCode}`)
  return JSON.parse(output)
}

describePrivileged('net-namespace', 'a server without any capability and a helper that has it', () => {
  test('save and restore bytes in both directions, in every family', async () => {
    expect(await scenario(await startHelper(), 'queues')).toEqual({ IPv4: true, IPv6: true, mapped: true })
  })

  test('move more connections than one message has descriptors', async () => {
    expect(await scenario(await startHelper(), 'many')).toEqual({
      held: 300,
      left: true,
      entered: [300, -9],
      restored: 300,
      released: 300,
      errors: 0,
    })
  })

  test('leave a receive queue that is larger than a buffer may be to the caller', async () => {
    expect(await scenario(await startHelper(), 'crowded')).toEqual({ queued: true, restored: 0, all: true })
  })

  test('do nothing else: no port of others, no hold without end, no raw packet', async () => {
    expect(await scenario(await startHelper('--port', '443'), 'refusals')).toEqual({
      own: -1,
      ownHold: 'EPERM',
      lowPort: 'EACCES',
      lowConnection: 'EACCES',
      named: 'done',
      forever: 'EINVAL',
      notTcp: expect.any(Number),
      kick: 'EPERM',
      still: 'done',
    })
  })
})

describePrivileged('net-namespace', 'tsunagi-repair', () => {
  test('has CAP_NET_ADMIN and nothing else, cannot get more, and is filtered', async () => {
    const { process: helper, path } = await startHelper()
    const status = readFileSync(`/proc/${helper.pid}/status`, 'utf8')
    const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1]
    const NET_ADMIN = '0000000000001000'
    const NONE = '0000000000000000'
    expect(['CapEff', 'CapPrm', 'CapInh', 'CapBnd', 'CapAmb', 'NoNewPrivs', 'Seccomp'].map(field)).toEqual([
      NET_ADMIN,
      NET_ADMIN,
      NONE,
      NONE,
      NONE,
      '1',
      '2',
    ])
    if (isRoot) expect(field('Uid')?.split('\t')).toEqual(Array(4).fill(String(RepairHelper.uid)))
    expect(statSync(path).mode & 0o777).toBe(0o600)
  })

  describePrivileged('other-uid', 'of another user', () => {
    test('turns away everybody else, root included', async () => {
      const { path } = await startHelper()
      const socket = connect(path)
      const got: Buffer[] = []
      socket.on('data', (chunk) => got.push(chunk))
      socket.on('error', () => {}) // it may close before it has read
      socket.write(request({ operation: 6 }))
      await new Promise((resolve) => socket.once('close', resolve))
      expect(got).toEqual([])
    })
  })

  test('lets go of whoever breaks its protocol, and goes on for the others', async () => {
    const helper = await startHelper()
    const answerTo = async (bytes: Buffer) => {
      const child = helper.run('sh', '-c', `printf '%s' '${bytes.toString('base64')}' | base64 -d | nc -N -U -w 5 ${helper.path}`)
      return Buffer.from(await new Response(child.stdout as never).arrayBuffer())
    }
    const broken = [
      Buffer.from('GET / HTTP/1.1\r\n\r\n\r\n'),
      request({ protocol: 1 }),
      request({ operation: 4, numbers: 0xffff_ffff }),
      request({ operation: 4, tuples: 5000 }),
      request({ operation: 1, numbers: 253 }),
      Buffer.concat([request({ operation: 6 }), Buffer.from('and more')]),
    ]
    for (const bytes of broken) expect(await answerTo(bytes)).toHaveLength(0)
    const EINVAL = 22
    for (const bytes of [request({ operation: 99 }), request({ operation: 1, numbers: 1 })]) {
      expect([...new Int32Array(new Uint8Array(await answerTo(bytes)).buffer)]).toEqual([EINVAL, 0, 0])
    }
    expect(await scenario(helper, 'many')).toMatchObject({ restored: 300 })
  })

  test('replaces the socket file of a dead helper', async () => {
    const helper = await startHelper()
    helper.process.kill('SIGKILL')
    await once(helper.process, 'close')
    await helper.startAgain()
    expect(await scenario(helper, 'refusals')).toMatchObject({ still: 'done' })
  })
})

describe('a helper that cannot be used', () => {
  test('is an error that names it', () => {
    expect(() => helperPowers(native, '/nowhere/socket').holdCreate()).toThrow(
      expect.objectContaining({ code: 'ERR_TSUNAGI_HELPER', message: expect.stringContaining('/nowhere/socket cannot be used') }),
    )
  })
})

describePrivileged('other-uid', 'a helper of root', () => {
  test('is started by root only for somebody', async () => {
    const child = spawn(HELPER, ['/nowhere/socket'], { stdio: ['ignore', 'ignore', 'pipe'] })
    const [said] = await Promise.all([text(child.stderr), once(child, 'close')])
    expect([child.exitCode, said]).toEqual([1, expect.stringContaining('needs --uid')])
  })
})

function request({ protocol = 0x74736801, operation = 6, numbers = 0, tuples = 0, argument = 0 }): Buffer {
  return Buffer.from(Uint32Array.of(protocol, operation, numbers, tuples, argument).buffer)
}
