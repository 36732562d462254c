import { readFileSync } from 'node:fs'
import { controlDirectory } from '../channel/rendezvous.js'
import { describeSnapshot, payloadOf, type SnapshotDescription } from '../cold/describe.js'
import type { SnapshotBody } from '../cold/snapshot-data.js'
import { decodeWhole } from '../cold/snapshot-format.js'
import { storedSnapshots } from '../cold/stored-files.js'
import { type Command, EXIT } from './command.js'

export const inspect: Command = {
  summary: 'shows what is in a snapshot, or in those that wait for the next start of their address',
  usage: '[options] [file | -]',
  arguments: 1,
  options: {
    json: { type: 'boolean', says: 'prints one JSON object a snapshot and line' },
    payload: { type: 'boolean', says: 'prints what the connections held as well, in base64 with --json' },
  },
  run({ arguments: [file], options, output }) {
    const files = file === undefined ? waiting() : [file]
    if (files.length === 0) output.err('tsunagi: no snapshot waits for its next start.\n')
    for (const each of files) {
      const { head, body } = decodeWhole(readFileSync(each === '-' ? 0 : each))
      const description = describeSnapshot(head, body)
      const payload = options['payload'] === true
      output.out(options['json'] ? json(description, body, payload) : table(each, description, body, payload))
    }
    return files.length > 0 ? EXIT.ok : EXIT.failed
  },
}

function waiting(): string[] {
  return storedSnapshots(controlDirectory()).flatMap(({ path, state }) => (state === 'snapshot' ? [path] : []))
}

function json(description: SnapshotDescription, body: SnapshotBody, withPayload: boolean): string {
  if (!withPayload) return `${JSON.stringify(description)}\n`
  const connections = description.connections.map((connection, index) => {
    const { unread, written } = payloadOf(body, index)
    return { ...connection, payload: { unread: unread.toString('base64'), written: written.toString('base64') } }
  })
  return `${JSON.stringify({ ...description, connections })}\n`
}

function table(file: string, description: SnapshotDescription, body: SnapshotBody, withPayload: boolean): string {
  const { savedAt, holdSeconds, pid, generation, tsunagi, node, listeners, held, carriedBytes, connections } = description
  const rows = connections.map(({ local, peer, state, unread, unsent, unacknowledged, refused }) => [
    local,
    peer,
    refused ? 'not saved' : state,
    String(unread.node + unread.kernel),
    String(unsent.node + unsent.kernel),
    String(unacknowledged),
    refused ?? '',
  ])
  const lines = [
    `${file}: saved ${savedAt} by process ${pid}, generation ${generation} (tsunagi ${tsunagi}, Node ${node}), to be restored within ${holdSeconds} s`,
    `  listened on ${listeners.join(', ')}`,
    `  holds ${[...held.ports.map((port) => `port ${port}`), ...(held.connections > 0 ? [`${held.connections} connections by themselves`] : [])].join(', ')}`,
    `  ${connections.length} connections, ${carriedBytes} bytes of carried state`,
    ...aligned([['local', 'peer', 'state', 'unread', 'unsent', 'unacknowledged', ''], ...rows]).flatMap((line, row) =>
      withPayload && row > 0 ? [line, ...payloadLines(body, row - 1)] : [line],
    ),
  ]
  return `${lines.join('\n')}\n`
}

function aligned(rows: readonly string[][]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)))
  return rows.map((row) => `  ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')}`.trimEnd())
}

function payloadLines(body: SnapshotBody, index: number): string[] {
  const { unread, written } = payloadOf(body, index)
  const line = (what: string, bytes: Buffer) => (bytes.length > 0 ? [`    ${what}: ${JSON.stringify(bytes.toString('utf8'))}`] : [])
  return [...line('unread', unread), ...line('written', written)]
}
