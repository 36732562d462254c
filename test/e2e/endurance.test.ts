import { readdirSync, rmSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { pattern } from '../fixtures/pattern.mjs'
import { Client } from '../helpers/client.js'
import { PackageCopy } from '../helpers/package-copy.js'
import { Line, stateOf } from '../helpers/process.js'

describe('one handover after the other', () => {
  it('leaves no descriptor, process or file behind in twenty', async () => {
    const line = await Line.start('counts.mjs')
    const echoing = await Client.connectMany(20, line.port)
    const held = await Client.connectMany(5, line.port)
    const filled = await Client.connectMany(5, line.port, { idle: true })
    for (const client of held) client.send('hold this')
    for (const client of filled) client.send('fill me')
    const counts: number[] = []
    for (let handovers = 0; handovers < 20; handovers++) {
      const word = `echo ${handovers}`
      for (const client of echoing) client.send(word)
      for (const client of echoing) await client.expect(word)
      await line.next()
      line.current.tell('count')
      counts.push((await line.current.until('descriptors'))['open'] as number)
    }
    expect(new Set(counts).size, counts.join()).toBe(1)
    expect(line.generations.slice(0, -1).map(({ pid }) => stateOf(pid))).toEqual(Array(20).fill(undefined))
    expect(readdirSync(line.directory)).toHaveLength(1)
    for (const client of held) await client.expect('hold this')
    for (const client of filled) await client.expect(pattern(2_000_000))
    for (const client of [...echoing, ...held, ...filled]) expect([client.surplus.length, client.seen]).toEqual([0, []])
    line.current.kill('SIGTERM')
    await line.current.exited
  })
})

describe('six hundred connections', () => {
  it('with unread and unsent bytes move three times', async () => {
    const line = await Line.start('counts.mjs')
    const held = await Client.connectMany(400, line.port)
    const filled = await Client.connectMany(20, line.port, { idle: true })
    const echoing = await Client.connectMany(180, line.port)
    for (const client of held) {
      client.send('hold this')
      await client.expect('hold this')
    }
    for (const client of filled) client.send('fill me')
    let sent = 0
    for (let generation = 1; generation <= 3; generation++) {
      for (const [i, client] of held.entries()) client.send(pattern(400, i, sent))
      sent += 400
      for (const [i, client] of echoing.entries()) client.send(pattern(1000, i + generation))
      for (const [i, client] of echoing.entries()) await client.expect(pattern(1000, i + generation))
      await line.next()
      expect(line.current.all('resumed')[0]).toMatchObject({ moved: 600, stayed: [] })
    }
    line.current.tell('go')
    for (const [i, client] of held.entries()) await client.expect(pattern(sent, i))
    for (const client of filled) await client.expect(pattern(2_000_000))
    for (const client of [...echoing, ...held, ...filled]) expect([client.surplus.length, client.seen]).toEqual([0, []])
  })
})

describe('the files of a version', () => {
  it('may all be gone before the next one starts', async () => {
    const copy = new PackageCopy()
    const line = await Line.start(copy.fixture('late.mjs'))
    const predecessor = line.current
    const client = await Client.connect(line.port)
    client.send('in parts')
    await predecessor.until('working')
    rmSync(copy.directory, { recursive: true })
    const successor = line.launch({}, new PackageCopy().fixture('late.mjs'))
    await successor.until('serving')
    client.send('are you there?')
    await client.expect('at once: are you there?\n')
    predecessor.tell('release')
    await client.expect(`${Array.from({ length: 500 }, (_, i) => `part ${i + 1}\n`).join('')}done\n`)
    expect(await predecessor.exited).toMatchObject({ code: 0 })
    expect(predecessor.stderr).not.toMatch('Error')
    expect(client.seen).toEqual([])
  })
})
