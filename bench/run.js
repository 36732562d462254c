// npm run bench [-- handover|steady|survive|start|cold|insured …]: what a handover costs, what it costs when there is none, what crash survival costs, what loading costs, what a cold restart
// costs, and whether a client notices that its connection was looked at in repair mode.
// Ratios are against something of the same run: absolute times are those of one machine on one day.
import { measureCold, measureColdRestarts } from './cold.js'
import { measureHandovers } from './handover/measure.js'
import { measureInsured } from './insured.js'
import { measureStart } from './start/measure.js'
import { measureSteady } from './steady/measure.js'

const sections = { handover, steady, survive, start, cold, insured }
const chosen = process.argv.slice(2).filter((argument) => argument in sections)
for (const name of chosen.length > 0 ? chosen : Object.keys(sections)) await sections[name]()

async function handover() {
  console.log(
    `Handover of an echo server, 1,000 pings a second in all, Node ${process.version}. Medians (worst) of the reloads; µs are for one connection.`,
  )
  console.log('"pause" is the longest answer during a reload as a multiple of the longest in the steady state right before it.\n')
  const rows = []
  for (const [connections, mode] of [
    [1_000, 'atomic'],
    [1_000, 'rolling'],
    [10_000, 'atomic'],
    [10_000, 'rolling'],
  ]) {
    const reloads = await measureHandovers({ connections, reloads: 5, env: { TSUNAGI_MODE: mode } })
    rows.push(rowOf(connections, mode, reloads))
  }
  table(rows)
}

function rowOf(connections, mode, reloads) {
  const of = (pick) => reloads.map(pick).sort((a, b) => a - b)
  const middle = (pick) => of(pick)[Math.floor(reloads.length / 2)]
  const each = (side, phase) => middle((reload) => (reload[side].phases[phase] ?? 0) / connections).toFixed(1)
  const untilCommit = ({ gave, took }) => sum(gave.phases, ['freeze', 'send', 'snapshot']) + sum(took.phases, ['restore'])
  return {
    connections,
    mode,
    'freeze to commit, µs': (middle(untilCommit) / connections).toFixed(1),
    freeze: each('gave', 'freeze'),
    send: each('gave', 'send'),
    snapshot: each('gave', 'snapshot'),
    restore: each('took', 'restore'),
    resume: each('took', 'resume'),
    'pause, ms': `${middle((reload) => reload.during.max).toFixed(0)} (${of((reload) => reload.during.max)
      .at(-1)
      .toFixed(0)})`,
    'steady max, ms': middle((reload) => reload.steady.max).toFixed(1),
    'pause, ratio': `${middle((reload) => reload.during.max / reload.steady.max).toFixed(1)} (${of(
      (reload) => reload.during.max / reload.steady.max,
    )
      .at(-1)
      .toFixed(1)})`,
    broken: reloads.reduce((total, { during }) => total + during.broken, 0),
  }
}

async function steady() {
  console.log(
    '\nSteady state: CPU of the server for one operation, tsunagi/register against plain Node, interleaved pairs (lowest / median / highest).\n',
  )
  tableOfRatios(await measureSteady('register'))
}

async function survive() {
  console.log(
    '\nCrash survival: CPU of the server for one operation, with TSUNAGI_SURVIVE=1 against without, both under tsunagi/register (lowest / median / highest).\n',
  )
  tableOfRatios(await measureSteady('survive'))
}

function tableOfRatios(ratios) {
  table(
    Object.entries(ratios).map(([name, list]) => {
      const sorted = list.sort((a, b) => a - b)
      return {
        operation: name === 'echo' ? '64-byte echo' : 'accept and one echo',
        ratio: [sorted[0], sorted[Math.floor(sorted.length / 2)], sorted.at(-1)].map((ratio) => ratio.toFixed(2)).join(' / '),
      }
    }),
  )
}

async function start() {
  console.log(
    '\nStart of a process that listens once, against plain Node right before it (medians of the pairs); CPU is user and system time.\n',
  )
  table(
    measureStart().map(({ name, wall, cpu }) => ({
      preload: `--${name} tsunagi/register`.replace('--require', '-r'),
      'more CPU, ms': cpu.more.toFixed(1),
      'CPU, ratio': cpu.ratio.toFixed(2),
      'more wall, ms': wall.more.toFixed(1),
      'wall, ratio': wall.ratio.toFixed(2),
    })),
  )
}

function cold() {
  for (const bytes of [0, 16_384]) {
    console.log(
      `\nSaving and restoring 2,000 connections with ${bytes} unread bytes in each, against the same system calls in plain C (medians of 7 rounds).\n`,
    )
    table(measureCold({ bytes }))
  }
  console.log(
    '\nCold restarts of an echo server, 1,000 pings a second in all (medians of 3). The gap is from the signal until the next process has everything.\n',
  )
  table(measureColdRestarts())
}

function insured() {
  console.log(
    "\nLooking at busy connections in repair mode, one of each kind. Retransmissions are the kernel's count; silences are medians of the laps.\n",
  )
  table(measureInsured())
}

function sum(phases, names) {
  return names.reduce((total, name) => total + (phases[name] ?? 0), 0)
}

function table(rows) {
  const names = Object.keys(rows[0])
  const cells = [names, ...rows.map((row) => names.map((name) => String(row[name])))]
  const widths = names.map((_, column) => Math.max(...cells.map((row) => row[column].length)))
  cells.forEach((row, i) => {
    console.log(row.map((cell, column) => cell.padStart(widths[column])).join('  '))
    if (i === 0) console.log(widths.map((width) => '-'.repeat(width)).join('  '))
  })
}
