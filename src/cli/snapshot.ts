import { readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { chooseServers, WHICH } from './choose-server.js'
import { type Command, EXIT, text, UsageError } from './command.js'
import { close } from './find-servers.js'

export const snapshot: Command = {
  summary: 'saves the connections of a running server as data, and ends it; its next start restores them',
  usage: '[options] [address]',
  arguments: 1,
  options: {
    ...WHICH,
    to: { type: 'string', value: 'FILE', says: 'puts the snapshot there, or for - on standard output: for `tsunagi restore` elsewhere' },
  },
  run(call) {
    const to = text(call, 'to')
    const servers = chooseServers(call)
    try {
      const [server, another] = servers
      if (server === undefined) throw new Error('no such server runs.')
      if (another) {
        const running = servers.map(({ status }) => `  --pid ${status.pid}  ${status.program} on ${status.listeners.join(', ')}`)
        throw new UsageError(`Which one? Give an address, --pid or --name; running are:\n${running.join('\n')}`)
      }
      const { pid } = server.status
      server.peer.channel.send({ type: 'save' })
      const received = server.peer.channel.receive(ANSWER_MS)
      if (received === undefined) throw new Error(`process ${pid} has not answered within ${ANSWER_MS / 1000} s.`)
      const { message } = received
      if (message.type === 'refused') throw new Error(`${message.reason} (${message.code})`)
      if (message.type !== 'saved') throw new Error(`process ${pid} answered with "${message.type}".`)
      if (to !== undefined) moveTo(message.file, to)
      const say = to === '-' ? call.output.err : call.output.out
      say(`${message.connections} connections of process ${pid} are in ${to === '-' ? 'the output' : (to ?? message.file)}\n`)
      for (const [reason, count] of message.ending) say(`  ${count} end: ${reason}\n`)
      return EXIT.ok
    } finally {
      for (const server of servers) close(server)
    }
  },
}

/** The server has ended by now: should this fail, the next start of its address on this machine still finds the snapshot. */
function moveTo(file: string, to: string): void {
  const bytes = readFileSync(file)
  if (to === '-') for (let at = 0; at < bytes.length; ) at += writeToPipe(bytes.subarray(at))
  else writeFileSync(to, bytes, { mode: 0o600, flush: true })
  rmSync(file)
}

/** A pipe that Node has made non-blocking is full when its reader is slow. */
function writeToPipe(bytes: Uint8Array): number {
  try {
    return writeSync(1, bytes)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1)
    return 0
  }
}

/** Saving may wait for a quarter of a second for handlers that are at work, and writes megabytes. */
const ANSWER_MS = 60_000
