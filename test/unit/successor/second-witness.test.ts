import { expect, test } from 'vitest'
import type { Native } from '../../../src/native/native.js'
import { CONNECTION_COLUMN, CONNECTION_COLUMNS, CONNECTION_REFUSALS } from '../../../src/native/repair.js'
import { compareFigures } from '../../../src/successor/second-witness.js'

type Row = Partial<Record<keyof typeof CONNECTION_COLUMN, number>>
const USUAL: Row = { refusal: 0, receiveSequence: 5000, receiveQueue: 100, sendSequence: 9000, peerFin: 0, mss: 1460, family: 2 }
const REFUSED = CONNECTION_REFUSALS.indexOf('not-in-repair')

function figuresOf(...rows: Row[]): Float64Array {
  const figures = new Float64Array(rows.length * CONNECTION_COLUMNS)
  rows.forEach((row, index) => {
    for (const [name, value] of Object.entries({ ...USUAL, ...row }))
      figures[index * CONNECTION_COLUMNS + CONNECTION_COLUMN[name as keyof Row]] = value
  })
  return figures
}

const tuplesOf = (...ports: number[]) => Uint8Array.from(ports.flatMap((port) => [...Array(35).fill(0), port]))

function flawsOf(was: Row, is: Row, ends: { sent: number; own: number } = { sent: 1, own: 1 }): string[] {
  const native = {
    glimpseConnections: () => ({ figures: figuresOf(is), tuples: new Uint8Array(36), names: [], queues: new Uint8Array() }),
    connectionTuples: () => tuplesOf(ends.own),
  } as unknown as Native
  const sent = { figures: new Uint8Array(figuresOf(was).buffer), tuples: tuplesOf(ends.sent), names: [] }
  return [...compareFigures(native, sent, Int32Array.of(10)).values()]
}

const ADDRESSES = 'its addresses are not those of its record'
const FIGURES = 'its sequence numbers or its settings are not those of its record'

test('the same connection is one, whatever has arrived meanwhile', () => {
  expect(flawsOf({}, {})).toEqual([])
  expect(flawsOf({}, { receiveSequence: 5700, receiveQueue: 800 })).toEqual([])
  expect(flawsOf({ receiveSequence: 5, receiveQueue: 10 }, { receiveSequence: 2 ** 32 - 1, receiveQueue: 4 })).toEqual([])
  expect(flawsOf({}, { receiveSequence: 5001, peerFin: 1 })).toEqual([])
  expect(flawsOf({ sendSequence: Number.NaN }, {})).toEqual([])
})

test('another is not, and what differs is named', () => {
  expect(flawsOf({}, {}, { sent: 1, own: 2 })).toEqual([ADDRESSES])
  expect(flawsOf({}, { receiveQueue: 99 })).toEqual([FIGURES])
  expect(flawsOf({}, { sendSequence: 9001 })).toEqual([FIGURES])
  expect(flawsOf({}, { mss: 1400 })).toEqual([FIGURES])
})

test('without the capability here the two ends alone are compared', () => {
  expect(flawsOf({}, { refusal: REFUSED, mss: 1 })).toEqual([])
  expect(flawsOf({}, { refusal: REFUSED }, { sent: 1, own: 2 })).toEqual([ADDRESSES])
})

test('what was not looked at there is not compared', () => {
  expect(flawsOf({ refusal: REFUSED, mss: 1 }, {}, { sent: 1, own: 2 })).toEqual([])
})
