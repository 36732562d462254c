import { describe, expect, it } from 'vitest'
import { pattern, patternText } from '../fixtures/pattern.mjs'
import { Client } from '../helpers/client.js'
import { Line } from '../helpers/process.js'

describe('bytes that Node has read and the application has not', () => {
  const each = [
    ['of a paused socket', { hold: 'paused' }],
    ['of a socket that nobody listens to', { hold: 'unheard' }],
    ...['utf8', 'utf16le', 'base64', 'hex', 'latin1'].map((encoding) => [`decoded as ${encoding}`, { hold: 'paused', encoding }]),
    ['decoded as utf8 with no listener', { hold: 'unheard', encoding: 'utf8' }],
  ] as [string, Record<string, unknown>][]

  it.each(each)('%s are all there in the third generation', async (_, mode) => {
    const line = await Line.start('unread.mjs', { mode })
    const sent = mode['encoding'] ? Buffer.from(patternText(180_000)) : pattern(180_000)
    const client = await Client.connect(line.port)
    // An odd length, so that a character, a pair of hex digits or a group of base64 is cut wherever that can be.
    const [first, second] = [40_001, 95_002]
    client.send(sent.subarray(0, first))
    await line.current.until('holding')
    await line.next()
    client.send(sent.subarray(first, second))
    await line.current.until('holding')
    await line.next()
    client.send(sent.subarray(second))
    await line.current.until('holding')
    line.current.tell('go')
    client.end()
    await client.expect(sent)
    await client.expectEnd()
    expect(client.seen).toEqual(['end'])
  })
})

describe('a character that arrives in pieces', () => {
  const emoji = Buffer.from('😀')
  const each: [string, BufferEncoding, Buffer, number[]][] = [
    ['of 4 bytes in utf8, cut after 1 and 2', 'utf8', emoji, [1, 2]],
    ['of 4 bytes in utf8, cut after 2 and 3', 'utf8', emoji, [2, 3]],
    ['of 4 bytes in utf8, cut after 1 and 3', 'utf8', emoji, [1, 3]],
    ['of 3 bytes in utf8, cut after 1 and 2', 'utf8', Buffer.from('漢'), [1, 2]],
    ['of 4 bytes in utf16le, cut after 1 and 2', 'utf16le', Buffer.from('😀', 'utf16le'), [1, 2]],
    ['of 4 bytes in utf16le, cut after 2 and 3', 'utf16le', Buffer.from('😀', 'utf16le'), [2, 3]],
    ['of 3 bytes in base64, cut after 1 and 2', 'base64', Buffer.from([1, 2, 3]), [1, 2]],
  ]

  it.each(each)('%s, is whole in the third generation', async (_, encoding, character, [first = 0, second = 0]) => {
    const line = await Line.start('unread.mjs', { mode: { hold: 'flowing', encoding } })
    const client = await Client.connect(line.port)
    await reads(character.subarray(0, first))
    await line.next()
    await reads(character.subarray(first, second))
    await line.next()
    client.send(character.subarray(second))
    await client.expect(character)
    client.end()
    await client.expectEnd()

    async function reads(bytes: Buffer): Promise<void> {
      client.send(bytes)
      line.current.tell('read 0')
      await line.current.until('read', (told) => told['bytes'] === bytes.length)
    }
  })
})
