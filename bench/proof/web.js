import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { freePorts, Line } from './line.js'
import { KINDS, Row } from './web/clients.js'

/** Which clients an app has, in hundredths. */
const APPS = [
  { app: 'Express + ws', script: 'web/express.cjs', mix: { websocket: 50, 'event stream': 15, 'keep-alive': 25, upload: 5, download: 5 } },
  {
    app: 'Fastify + socket.io',
    script: 'web/fastify.cjs',
    mix: { 'socket.io': 50, 'event stream': 15, 'keep-alive': 25, upload: 5, download: 5 },
  },
]

/** Apps that know nothing of tsunagi, reloaded under their clients. Returns their rows, and what went wrong beside them. */
export async function proveWeb({ reloads, clients, move }, progress) {
  const rows = []
  const faults = []
  for (const { app, script, mix } of APPS) {
    const directory = mkdtempSync(join(tmpdir(), 'tsunagi-proof-'))
    const [port] = await freePorts(1)
    const environment = { PORT: String(port), TSUNAGI_DIR: directory, TSUNAGI_MOVE: move, TSUNAGI_GRACE: move === 'all' ? '30' : '1' }
    const line = new Line(new URL(script, import.meta.url), { environment, node: ['--import', 'tsunagi/register'] })
    const killed = () => line.kill()
    process.once('exit', killed)
    const own = Object.keys(mix).map((kind) => Object.assign(new Row(kind), { app }))
    try {
      await line.reload()
      await reloadUnderClients(line, { port, own, mix, clients, reloads }, (done) => progress(app, done))
    } catch (error) {
      faults.push(`${app}: ${error.stack}`)
    }
    faults.push(...line.faults.map((fault) => `${app}: ${fault}`))
    rows.push(...own)
    line.kill()
    process.off('exit', killed)
    rmSync(directory, { recursive: true, force: true })
  }
  return { rows, faults }
}

async function reloadUnderClients(line, { port, own, mix, clients, reloads }, progress) {
  const stop = new AbortController()
  const working = []
  for (const row of own) {
    for (let i = 0; i < Math.round((clients * mix[row.kind]) / 100); i++) {
      row.clients++
      working.push(KINDS[row.kind](port, row, stop.signal))
      if (working.length % 20 === 0) await delay(20)
    }
  }
  const answered = () => own.map((row) => row.answered)
  const isBusy = async () => {
    const before = answered()
    // Every kind has to get on between two reloads, but for those whose clients have been cut off.
    const waits = () => answered().some((count, k) => own[k].closed === 0 && count < before[k] + own[k].clients)
    for (let i = 0; i < 200 && waits(); i++) await delay(50)
  }
  await isBusy()
  for (let done = 1; done <= reloads; done++) {
    await line.reload()
    await isBusy()
    progress(done)
  }
  stop.abort()
  await Promise.all(working)
}

const COLUMNS = {
  clients: 'clients',
  sent: 'sent',
  answered: 'answered',
  closed: 'closed',
  failed: 'failed',
  lost: 'lost',
  repeated: 'repeated',
  greetingsRepeated: 'greetings repeated',
}
const HARM = ['closed', 'failed', 'lost', 'repeated', 'greetingsRepeated']

export function webFailures({ rows, faults }) {
  const idle = rows
    .filter(({ answered, clients }) => answered < clients)
    .map(({ app, kind }) => `${app}, ${kind}: hardly anything was answered`)
  const hurt = rows.flatMap((row) =>
    HARM.filter((how) => row[how] > 0).map((how) => `${row.app}, ${row.kind}: ${row[how]} ${COLUMNS[how]} (${row.example})`),
  )
  return [...faults, ...idle, ...hurt]
}

export function webTable({ rows }) {
  const lines = [['app', 'kind', ...Object.values(COLUMNS)]]
  for (const row of rows) lines.push([row.app, row.kind, ...Object.keys(COLUMNS).map((name) => row[name].toLocaleString('en-US'))])
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => line[column].length)))
  return lines
    .map((line) => line.map((cell, column) => (column < 2 ? cell.padEnd(widths[column]) : cell.padStart(widths[column]))).join('  '))
    .join('\n')
}
