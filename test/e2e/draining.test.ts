import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { connect as connectTls } from 'node:tls'
import { describe, expect, it } from 'vitest'
import { pattern } from '../fixtures/pattern.mjs'
import { Client } from '../helpers/client.js'
import { Line, temporaryDirectory } from '../helpers/process.js'

describe('a connection that the predecessor still has its hands on', () => {
  it('into which a file is piped stays, and gets all of the file', async () => {
    const file = join(temporaryDirectory(), 'file')
    const content = pattern(30_000_000)
    writeFileSync(file, content)
    const { line, client, predecessor } = await taken('FILE', { file }, true)
    await line.nextWhileDraining()
    expect(line.current.all('resumed')[0]).toMatchObject({ moved: 0 })
    expect(await predecessor.until('handover')).toMatchObject({
      stayed: [],
      later: [{ reason: 'a stream of this process is piped into it', connections: 1 }],
    })
    await client.expect(content)
    await client.expectEnd()
    client.end()
    expect((await predecessor.exited).code).toBe(0)
  })

  it('on which TLS was started stays, and its conversation goes on', async () => {
    const { line, client, predecessor } = await taken('STARTTLS')
    await client.expect('go on\n')
    await line.nextWhileDraining()
    expect(stayed(await predecessor.until('handover'))).toBe('TLS was started on it')
    const psk = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex')
    client.release()
    const secure = connectTls({
      socket: client.socket,
      ciphers: 'PSK+HIGH',
      maxVersion: 'TLSv1.2',
      pskCallback: () => ({ psk, identity: 'client' }),
      checkServerIdentity: () => undefined,
    })
    secure.write('hello')
    expect(await text(secure)).toBe(`${predecessor.pid} heard hello`)
    expect((await predecessor.exited).code).toBe(0)
  })

  it('that an HTTP parser reads stays, and its next request is answered', async () => {
    const { line, client, predecessor } = await taken('HTTP')
    await client.expect('go on\n')
    await line.nextWhileDraining()
    expect(stayed(await predecessor.until('handover'))).toBe('an HTTP parser reads it')
    client.send('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
    client.end()
    await client.closed()
    expect(client.surplus.toString()).toMatch(new RegExp(`^HTTP/1.1 200 OK[^]*http says ${predecessor.pid}`))
    expect((await predecessor.exited).code).toBe(0)
  })

  it('whose peer has reset it unnoticed is not moved', async () => {
    const { line, client, predecessor } = await taken('PAUSE', {}, false, { TSUNAGI_GRACE: '0.1' })
    const other = await Client.connect(line.port)
    other.send('PLAIN')
    await other.expect('go on\n')
    client.send(Buffer.alloc(200_000))
    await predecessor.until('full')
    client.socket.resetAndDestroy()
    await line.next()
    expect(stayed(await predecessor.until('handover'))).toMatch(/it is already closing$/)
    expect(line.current.all('resumed')[0]).toMatchObject({ moved: 1 })
    expect(other.seen).toEqual([])
  })
})

describe('a policy', () => {
  it('moves one connection, drains another and closes a third', async () => {
    const line = await Line.start('staying.mjs')
    const predecessor = line.current
    const [moves, drains, closes] = await Client.connectMany(3, line.port)
    for (const [client, word] of [
      [moves, 'PLAIN move'],
      [drains, 'PLAIN drain'],
      [closes, 'PLAIN close'],
    ] as const) {
      client?.send(word)
      await client?.expect('go on\n')
    }
    await line.nextWhileDraining()
    expect((await predecessor.until('handover'))['stayed']).toEqual([
      { reason: 'policy: drain', connections: 1 },
      { reason: 'policy: close', connections: 1 },
    ])
    await closes?.expectEnd()
    closes?.end()
    drains?.send('one more thing')
    await drains?.expect(`${predecessor.pid} heard one more thing`)
    moves?.send('PLAIN')
    await moves?.expect('go on\n')
    moves?.send('who are you?')
    await moves?.expect(`${line.current.pid} heard who are you?`)
    drains?.end()
    await drains?.expectEnd()
    expect((await predecessor.exited).code).toBe(0)
    expect(moves?.seen).toEqual([])
  })

  it('leaves what drains until the grace period is over, and then ends it', async () => {
    const { line, client, predecessor } = await taken('PLAIN drain', {}, false, { TSUNAGI_GRACE: '0.1' })
    await client.expect('go on\n')
    await line.next()
    await client.expectEnd()
    expect(predecessor.stderr).toMatch('the grace period of 0.1 s is over: 1 connections are ended')
  })
})

async function taken(words: string, mode: Record<string, unknown> = {}, idle = false, env: NodeJS.ProcessEnv = {}) {
  const line = await Line.start('staying.mjs', { mode, env })
  const client = await Client.connect(line.port, { idle })
  client.send(words)
  await line.current.until('taken')
  return { line, client, predecessor: line.current }
}

function stayed(report: Record<string, unknown>): string {
  return (report['stayed'] as { reason: string }[]).map(({ reason }) => reason).join()
}
