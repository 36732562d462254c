import { describe, expect, it } from 'vitest'
import { Client } from '../helpers/client.js'
import { ask, asking, body, chunk, head } from '../helpers/http.js'
import { missingNodes, NODES } from '../helpers/nodes.js'
import { nextPlain, startPlain, TOOK_OVER } from '../helpers/plain.js'
import { Line } from '../helpers/process.js'

/** The program, with a client of one of its streams that has read the welcome. */
async function listening(path: string, mode: Record<string, unknown> = {}, env: NodeJS.ProcessEnv = {}) {
  const line = await startPlain('events.cjs', { mode, env: { TSUNAGI_MOVE: 'sse', ...env } })
  const client = await Client.connect(line.port)
  client.send(asking(path))
  await head(client)
  return { line, client, first: line.current }
}

const welcome = (pid: number) => `retry: 1000\n\ndata: welcome to ${pid}\n\n`

describe('an event stream of a program that has never heard of tsunagi', () => {
  it.each(NODES)(
    'goes on through three generations on Node $major: no second head, no second welcome, no event lost or repeated',
    async ({ path }) => {
      expect(missingNodes()).toBe('')
      const line = await startPlain('events.cjs', { env: { TSUNAGI_MOVE: 'all' }, command: [path] })
      const clients = await Client.connectMany(3, line.port)
      for (const client of clients) client.send(asking('/ticks'))
      for (const client of clients) {
        await head(client)
        await body(client, welcome(line.current.pid))
      }
      for (let generation = 0; generation < 4; generation++) {
        if (generation > 0) {
          const predecessor = line.current
          await nextPlain(line, { mode: { said: generation } })
          expect(predecessor.all('left')).toEqual([])
          expect(line.current.all('request')).toMatchObject(Array(3).fill({ url: '/ticks', last: `said-${generation}` }))
        }
        line.current.tell('say')
        for (const client of clients) await body(client, `id: said-${generation + 1}\ndata: ${line.current.pid} says ${generation + 1}\n\n`)
      }
      line.current.tell('end')
      for (const client of clients) {
        await body(client, 'data: bye\n\n')
        expect(await chunk(client)).toBe('')
        await ask(client, '/plain', `plain ${line.current.pid}`)
        expect(client.seen).toEqual([])
      }
    },
  )

  it('is told what has happened since its last event where the program looks at Last-Event-ID', async () => {
    const { line, client } = await listening('/log')
    await body(client, 'id: 1\ndata: logged 1\n\nid: 2\ndata: logged 2\n\nid: 3\ndata: logged 3\n\n')
    await nextPlain(line, { mode: { logged: 5 } })
    await body(client, 'id: 4\ndata: logged 4\n\nid: 5\ndata: logged 5\n\n')
    await nextPlain(line, { mode: { logged: 5 } })
    line.current.tell('say')
    await body(client, `id: said-1\ndata: ${line.current.pid} says 1\n\n`)
    expect(client.seen).toEqual([])
  })

  it('is not welcomed again by a handler that takes its time', async () => {
    const { line, client, first } = await listening('/late')
    await body(client, welcome(first.pid))
    const successor = await nextPlain(line)
    await successor.until('request')
    let sent = false
    while (!sent) {
      successor.tell('say')
      await new Promise((resolve) => setTimeout(resolve, 10))
      sent = client.surplus.length > 0
    }
    expect(client.surplus.toString()).not.toContain('welcome')
    expect(client.seen).toEqual([])
  })

  it('stays where its first event has come by itself after its head: nobody knows whether that was a greeting', async () => {
    const { line, client, first } = await listening('/afterwards', {}, { TSUNAGI_GRACE: '1' })
    await body(client, `data: welcome to ${first.pid}\n\n`)
    await line.launch().untilSaid(TOOK_OVER)
    await client.expectEnd()
    expect((await first.exited).code).toBe(0)
    expect(first.stderr).toMatch('its first event came later than its head')
    expect(client.seen).toEqual(['end'])
  })

  it('moves where its first event was that of an interval, or of an older stream as well', async () => {
    const { line, client, first } = await listening('/interval')
    await body(client, `data: ${first.pid}\n\n`)
    const [older, younger] = [await Client.connect(line.port), await Client.connect(line.port)]
    older.send(asking('/ticks'))
    await head(older)
    await body(older, welcome(first.pid))
    younger.send(asking('/quiet'))
    await head(younger)
    first.tell('say')
    for (const either of [older, younger]) await body(either, `id: said-1\ndata: ${first.pid} says 1\n\n`)
    const successor = await nextPlain(line, { mode: { said: 1 } })
    successor.tell('say')
    for (const either of [older, younger]) await body(either, `id: said-2\ndata: ${successor.pid} says 2\n\n`)
    let heard = ''
    while (!heard.includes(`data: ${successor.pid}\n`)) heard += await chunk(client)
    expect([...client.seen, ...older.seen, ...younger.seen]).toEqual([])
  })

  it('stays where it is compressed, and says why', async () => {
    const { line, client, first } = await listening('/compressed', {}, { TSUNAGI_GRACE: '1' })
    await body(client, welcome(first.pid))
    await line.launch().untilSaid(TOOK_OVER)
    await client.expectEnd()
    expect((await first.exited).code).toBe(0)
    expect(first.stderr).toMatch('it is compressed: where its events end is not known')
  })

  it('waits for the other half of an event', async () => {
    const { line, client, first } = await listening('/ticks')
    await body(client, welcome(first.pid))
    first.tell('half')
    await body(client, 'data: ha')
    const successor = line.launch()
    await successor.until('report')
    first.tell('rest')
    await body(client, 'lf\n\n')
    await successor.until('request')
    successor.tell('say')
    await body(client, `id: said-1\ndata: ${successor.pid} says 1\n\n`)
    expect((await first.exited).code).toBe(0)
    expect(client.seen).toEqual([])
  })

  it('gets what work of the old process still sends, once, as an event; its interval is heard no more', async () => {
    const { line, client, first } = await listening('/ticks', { ticks: true })
    await body(client, welcome(first.pid))
    first.tell('later say')
    const successor = line.launch()
    await successor.until('request')
    first.tell('now')
    expect((await first.exited).code).toBe(0)
    const texts: string[] = []
    while (texts.filter((text) => text.includes(`tick of ${successor.pid}`)).length < 5) texts.push(await chunk(client))
    const events = texts.join('').split('\n\n')
    expect(events.filter((event) => event.includes('late'))).toEqual([`data: late from ${first.pid}`])
    expect(events.filter((event) => event.includes('welcome'))).toEqual([])
    const since = events.findIndex((event) => event.includes(`tick of ${successor.pid}`))
    expect(events.slice(since).filter((event) => event.includes(`tick of ${first.pid}`))).toEqual([])
    expect(client.seen).toEqual([])
  })

  it('ends, as a whole body, where the new version answers otherwise', async () => {
    const { line, client, first } = await listening('/ticks')
    await body(client, welcome(first.pid))
    await nextPlain(line, { mode: { forbidden: true } })
    expect(await chunk(client)).toBe('')
    await client.expectEnd()
    expect(client.seen).toEqual(['end'])
  })

  it('goes on in the old process where the new one dies before it has started it', async () => {
    const { line, client, first } = await listening('/ticks')
    await body(client, welcome(first.pid))
    const successor = line.launch({ env: { TSUNAGI_FAULT: 'successor-after-commit=kill' } })
    await successor.exited
    await first.untilSaid('1 connections were taken back')
    first.tell('say')
    await body(client, `id: said-1\ndata: ${first.pid} says 1\n\n`)
    line.generations.pop()
    await nextPlain(line, { mode: { said: 1 } })
    line.current.tell('say')
    await body(client, `id: said-2\ndata: ${line.current.pid} says 2\n\n`)
    expect(first.all('left')).toEqual([])
    expect(client.seen).toEqual([])
  })

  it('drains where nobody asked: it is served until the grace period is over', async () => {
    const { line, client, first } = await listening('/ticks', {}, { TSUNAGI_MOVE: '', TSUNAGI_GRACE: '1' })
    await body(client, welcome(first.pid))
    const successor = line.launch()
    await successor.until('report')
    first.tell('say')
    await body(client, `id: said-1\ndata: ${first.pid} says 1\n\n`)
    await client.expectEnd()
    expect((await first.exited).code).toBe(0)
    expect(first.stderr).toMatch('nobody asked for it to move (TSUNAGI_MOVE=sse')
    expect(successor.all('request')).toEqual([])
  })
})

describe('a response without end whose handler resumes it', () => {
  it('goes on with what it carries, which the next request does not see', async () => {
    const line = await Line.start('streams.mjs')
    const client = await Client.connect(line.port)
    client.send(asking('/'))
    await head(client)
    await body(client, `{"hello":${line.current.pid}}\n`)
    for (let generation = 0; generation < 3; generation++) {
      if (generation > 0) await line.next()
      expect(await line.current.until('request')).toMatchObject({ resumed: generation > 0 })
      line.current.tell('count')
      await body(client, `{"pid":${line.current.pid},"count":${generation + 1}}\n`)
    }
    const other = await Client.connect(line.port)
    for (let i = 0; i < 2; i++) {
      other.send(asking('/plain'))
      await head(other)
      await other.expect(`{"pid":${line.current.pid},"seen":{"count":0}}`)
    }
    expect(client.seen).toEqual([])
  })
})
