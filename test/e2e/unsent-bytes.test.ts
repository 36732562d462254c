import { describe, expect, it } from 'vitest'
import { pattern, patternText } from '../fixtures/pattern.mjs'
import { Client } from '../helpers/client.js'
import { Line } from '../helpers/process.js'

/** As in fixtures/unsent.mjs. */
const BYTES = 20_000_000

const each: [title: string, how: string, expected: () => Buffer, ends: boolean][] = [
  ['a Buffer', 'buffer', () => pattern(BYTES), false],
  ['a utf8 string', 'utf8', () => Buffer.from(patternText(BYTES)), false],
  ['a latin1 string', 'latin1', () => pattern(BYTES), false],
  ['a utf16le string', 'utf16le', () => pattern(BYTES), false],
  ['a hex string', 'hex', () => pattern(BYTES), false],
  ['a base64 string', 'base64', () => pattern(BYTES), false],
  ['500,000 small writes', 'many small', () => pattern(BYTES), false],
  ['writes in every encoding', 'mixed', () => pattern(BYTES), false],
  ['corked writes', 'corked', () => pattern(BYTES), false],
  ['a writev behind a write in flight', 'writev', () => Buffer.concat([pattern(BYTES), pattern(100_000, 1)]), false],
  ['a last Buffer given to end()', 'then end', () => pattern(BYTES), true],
  ['writes, then end() with words', 'then end with words', () => Buffer.concat([pattern(BYTES), Buffer.from('goodbye')]), true],
]

describe('20 MB that a client does not read', () => {
  it.each(each)('written as %s arrive exactly over three generations', async (_, how, makeExpected, ends) => {
    const line = await Line.start('unsent.mjs', { mode: { how } })
    const client = await Client.connect(line.port, { idle: true })
    const expected = makeExpected()
    const { bytes } = await line.current.until('holding')
    expect(bytes).toBeGreaterThan(BYTES / 4)
    const first = await line.next()
    await first.until('holding', (told) => (told['bytes'] as number) > 0 && told['ended'] === ends)
    const second = await line.next()
    await second.until('holding', (told) => (told['bytes'] as number) > 0 && told['ended'] === ends)

    await client.expect(expected)
    client.send('I have it all')
    await second.until('data', (told) => told['text'] === 'I have it all')
    if (!ends) expect(client.seen).toEqual([])
    client.end()
    await client.expectEnd()
    await second.until('socket close')
    for (const predecessor of line.generations.slice(0, 2)) {
      expect(predecessor.told.filter(({ event }) => event.startsWith('socket '))).toEqual([])
    }
  })

  it('calls the callback of the write in the process that wrote, once', async () => {
    const line = await Line.start('unsent.mjs', { mode: { how: 'buffer' } })
    const client = await Client.connect(line.port, { idle: true })
    const [predecessor, successor] = [line.current, await line.current.until('holding').then(() => line.next())]
    expect(predecessor.all('written')).toHaveLength(1)
    await client.expect(pattern(BYTES))
    expect(successor.all('written')).toHaveLength(0)
  })
})
