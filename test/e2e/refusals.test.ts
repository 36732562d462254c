import { once } from 'node:events'
import { chmodSync, chownSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { decode, encode } from '../../src/channel/codec.js'
import { encodeFrame, FrameReader } from '../../src/channel/frame.js'
import type { Message } from '../../src/channel/messages.js'
import { addressKey, controlSocketPath } from '../../src/channel/rendezvous.js'
import { Client } from '../helpers/client.js'
import { describePrivileged } from '../helpers/privileged.js'
import { fixture, Line, ServerProcess, temporaryDirectory } from '../helpers/process.js'

describe('a new version', () => {
  it('that cannot boot costs nothing', async () => {
    const { line, client, predecessor } = await answering()
    const broken = line.launch({}, 'broken.mjs')
    expect((await broken.exited).code).toBe(1)
    await predecessorServesOn(line, client, predecessor)
  })

  it('that is never ready costs nothing, and is named to a third one', async () => {
    const { line, client, predecessor } = await answering()
    const hanging = line.launch({ env: { TSUNAGI_FAULT: 'successor-before-ready=stop' } })
    await hanging.untilStopped()
    const third = line.launch()
    const error = await third.until('error')
    expect(error).toMatchObject({ code: 'ERR_TSUNAGI_BUSY', serving: true })
    expect(error['message']).toMatch(`process ${hanging.pid} is taking over from process ${predecessor.pid} just now`)
    expect((await third.exited).code).toBe(1)
    await asks(client, predecessor)
    hanging.kill()
    await hanging.exited
    await predecessorServesOn(line, client, predecessor)
  })

  it('that finds the predecessor stopped says so', async () => {
    const { line, client, predecessor } = await answering()
    predecessor.kill('SIGSTOP')
    await predecessor.untilStopped()
    const successor = line.launch()
    expect(await successor.until('error')).toMatchObject({ code: 'ERR_TSUNAGI_LOOKUP' })
    expect((await successor.exited).code).toBe(1)
    predecessor.kill('SIGCONT')
    await predecessorServesOn(line, client, predecessor)
  })

  it('waits for a predecessor that is busy for seconds', async () => {
    const { line, client, predecessor } = await answering()
    client.send('busy\n')
    await client.expect(`${predecessor.pid} busy\n`)
    await line.launch().until('serving')
    expect(await predecessor.exited).toEqual({ code: 0, signal: null })
    await asks(client, line.current)
  })

  it('finds no obstacle in the socket file of a process that was killed', async () => {
    const { line, predecessor } = await answering()
    predecessor.kill()
    await predecessor.exited
    expect(socketFiles(line)).toHaveLength(1)
    await line.launch().until('serving')
    await line.next()
    expect(socketFiles(line)).toHaveLength(1)
    await asks(await Client.connect(line.port), line.current)
  })

  it('gets EADDRINUSE from a process that is not of tsunagi', async () => {
    const line = await Line.empty('answers.mjs')
    const stranger = createServer().listen(line.port)
    await once(stranger, 'listening')
    onTestFinished(() => void stranger.close())
    expect(await line.launch().until('error')).toMatchObject({ code: 'EADDRINUSE' })
  })
})

describe('what a predecessor hears on its control socket', () => {
  const hello = { type: 'hello', protocolMin: 1, protocolMax: 1, pid: 1, version: '0', node: 'v20.0.0', address: '', token: '' } as const
  const each: [title: string, says: (key: string) => Uint8Array, answer: RegExp | undefined][] = [
    [
      'a hello of a protocol of the future',
      (address) => frame({ ...hello, address, protocolMin: 99, protocolMax: 100, version: '9.9.9' }),
      /ERR_TSUNAGI_PROTOCOL.*it speaks protocol 99 to 100 \(tsunagi 9\.9\.9\), process \d+ speaks 1 to 1 \(tsunagi /,
    ],
    ['a hello for an address that it does not have', () => frame({ ...hello, address: 'tcp4 1.2.3.4:5' }), /RELATED/],
    ['a message out of turn', () => frame({ type: 'ready', claimed: [], states: [], mode: 'auto', ahead: false }), undefined],
    ['a message that only a predecessor sends', () => frame({ type: 'commit' }), undefined],
    ['garbage', () => Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'), undefined],
    ['a frame that announces more than it may', () => Buffer.from('54534e47ffffffffffffffffffffffff', 'hex'), undefined],
  ]

  it.each(each)('%s does it no harm', async (_, says, answer) => {
    const { line, client, predecessor } = await answering()
    const bytes = await conversation(line, says(keyOf(line)))
    if (answer) expect(JSON.stringify(messagesOf(bytes))).toMatch(answer)
    else expect(bytes).toHaveLength(0)
    await predecessorServesOn(line, client, predecessor)
  })
})

describe('what a successor hears from who holds its address', () => {
  const each: [title: string, says: Buffer | undefined, code: string][] = [
    [
      'a refusal for its protocol',
      frame({ type: 'refused', code: 'ERR_TSUNAGI_PROTOCOL', reason: 'it speaks 1, I speak 7' }),
      'ERR_TSUNAGI_PROTOCOL',
    ],
    [
      'a refusal with a code of the future',
      frame({ type: 'refused', code: 'ERR_TSUNAGI_OF_THE_FUTURE', reason: 'of reasons' }),
      'ERR_TSUNAGI_REFUSED',
    ],
    [
      'a welcome without a descriptor',
      frame({ type: 'welcome', protocol: 1, pid: 1, version: '', node: '', generation: 1 }),
      'ERR_TSUNAGI_PROTOCOL',
    ],
    ['garbage', Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'), 'ERR_TSUNAGI_MESSAGE'],
    ['nothing', undefined, 'ERR_TSUNAGI_LOOKUP'],
  ]

  it.each(each)('%s becomes an error of its server', async (_, says, code) => {
    const line = await Line.empty('answers.mjs', { host: '127.0.0.1' })
    // A process of its own: with its parent a successor would not even speak.
    const path = controlSocketPath(line.directory, keyOf(line))
    const args = [String(line.port), path, ...(says ? [says.toString('base64')] : [])]
    await new ServerProcess(fixture('raw-holder.mjs'), process.env, { args }).until('holding')
    const successor = line.launch()
    expect(await successor.until('error')).toMatchObject({ code })
    expect((await successor.exited).code).toBe(1)
  })
})

describePrivileged('other-uid', 'a process of another user', () => {
  const spawn = { uid: 65534, gid: 65534 }

  it('does not use a directory that is not its own', async () => {
    const { line, client, predecessor } = await answering()
    const successor = line.launch({ spawn })
    expect(await successor.until('error')).toMatchObject({
      code: 'ERR_TSUNAGI_DIRECTORY',
      message: expect.stringMatching('belongs to uid'),
    })
    line.generations.pop()
    await predecessorServesOn(line, client, predecessor)
  })

  it('takes nothing from a predecessor that it can reach', async () => {
    const { line, client, predecessor } = await answering()
    const name = openToAll(line)
    const directory = join(temporaryDirectory(), 'own')
    chmodSync(join(directory, '..'), 0o755)
    mkdirSync(directory, { mode: 0o700 })
    chownSync(directory, spawn.uid, spawn.gid)
    symlinkSync(join(line.directory, name), join(directory, name))
    const successor = line.launch({ spawn, env: { TSUNAGI_DIR: directory } })
    expect(await successor.until('error')).toMatchObject({
      code: 'ERR_TSUNAGI_PEER',
      message: expect.stringMatching(`is held by process ${predecessor.pid} of uid 0; this process runs as uid 65534`),
    })
    await asks(client, predecessor)
  })

  it('is given nothing by a predecessor that it can reach', async () => {
    const { line, client, predecessor } = await answering()
    openToAll(line)
    const hello = frame({ type: 'hello', protocolMin: 1, protocolMax: 1, pid: 1, version: '0', node: '', address: keyOf(line), token: '' })
    const bytes = await conversation(line, hello, spawn)
    expect(messagesOf(bytes)).toMatchObject([{ type: 'refused', code: 'ERR_TSUNAGI_PEER' }])
    await asks(client, predecessor)
  })

  function openToAll(line: Line): string {
    const [name = ''] = socketFiles(line)
    chmodSync(line.directory, 0o711)
    chmodSync(join(line.directory, name), 0o666)
    return name
  }
})

async function answering() {
  const line = await Line.start('answers.mjs', { host: '127.0.0.1' })
  const client = await Client.connect(line.port)
  await asks(client, line.current)
  return { line, client, predecessor: line.current }
}

async function predecessorServesOn(line: Line, client: Client, predecessor: ServerProcess): Promise<void> {
  await asks(client, predecessor)
  await asks(await Client.connect(line.port), predecessor)
  await line.launch().until('serving')
  expect((await predecessor.exited).code).toBe(0)
  await asks(client, line.current)
  expect([client.surplus.length, client.seen]).toEqual([0, []])
}

async function asks(client: Client, server: ServerProcess): Promise<void> {
  client.send('who?\n')
  expect(await client.line()).toBe(`${server.pid} who?`)
}

function keyOf({ port }: Line): string {
  return addressKey({ family: 'IPv4', address: '127.0.0.1', port, ipv6Only: false })
}

function socketFiles(line: Line): string[] {
  return readdirSync(line.directory)
}

function frame(message: Message): Buffer {
  return Buffer.concat(encodeFrame(encode(message)))
}

/** What a process that is no relative of the server's hears when it says these bytes on its control socket. */
async function conversation(line: Line, says: Uint8Array, spawn = {}): Promise<Buffer> {
  const path = controlSocketPath(line.directory, keyOf(line))
  const raw = new ServerProcess(fixture('raw-client.mjs'), process.env, { spawn, args: [path, Buffer.from(says).toString('base64')] })
  return Buffer.from((await raw.until('heard'))['bytes'] as string, 'base64')
}

function messagesOf(bytes: Buffer): Message[] {
  const messages: Message[] = []
  const reader = new FrameReader()
  for (let at = 0; at < bytes.length; ) {
    const copied = bytes.copy(reader.room, 0, at)
    at += copied
    const received = reader.advance(copied, [])
    if (received) messages.push(decode(received).message)
  }
  return messages
}
