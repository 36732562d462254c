import type { Received } from '../channel/codec.js'
import type { Canary } from '../channel/messages.js'
import { chooseServers, WHICH } from './choose-server.js'
import { type Call, type Command, EXIT, milliseconds, text, UsageError } from './command.js'
import { close, type FoundServer } from './find-servers.js'

export const reload: Command = {
  summary: 'starts the new version of a running server and waits until it serves',
  usage: '[options] [address]',
  arguments: 1,
  options: {
    ...WHICH,
    timeout: { type: 'string', value: 'SECONDS', says: 'that the new version may take until it serves (60)' },
    canary: { type: 'string', value: 'K', says: 'lends the new version K connections first, and watches it before it gets the rest' },
    watch: { type: 'string', value: 'SECONDS', says: 'that it is watched with them (10)' },
    fresh: { type: 'boolean', says: 'gives it the environment that the running one was started with, not the one it has now' },
  },
  run(call) {
    const timeout = milliseconds(call, 'timeout', 60_000)
    const canary = canaryOf(call)
    const servers = chooseServers(call)
    try {
      const [server, another] = servers
      if (server === undefined) throw new Error('no such server runs.')
      if (another) throw new UsageError(`Which one? Give an address, --pid or --name; running are:\n${servers.map(listed).join('\n')}`)
      server.peer.channel.send({ type: 'reload', timeout, env: call.options['fresh'] ? 'fresh' : 'current', ...(canary && { canary }) })
      const received = server.peer.channel.receive(canary ? -1 : timeout + PATIENCE_MS) // whoever is watched may take its time to give back
      return say(call.output, server, received)
    } finally {
      for (const server of servers) close(server)
    }
  },
}

function canaryOf(call: Call): Canary | undefined {
  const given = text(call, 'canary')
  const watch = milliseconds(call, 'watch', 10_000)
  if (given === undefined) return undefined
  const connections = Number(given)
  if (!Number.isSafeInteger(connections) || connections < 1)
    throw new UsageError(`--canary is a number of connections, 1 or more, not "${given}".`)
  return { connections, watch: Math.round(watch) }
}

function say({ out, err }: { out(text: string): void; err(text: string): void }, { status }: FoundServer, received?: Received): number {
  if (received === undefined) throw new Error(`process ${status.pid} has not answered.`)
  const { message, segments } = received
  if (message.type === 'refused') {
    const printed = Buffer.from(segments[0] ?? [])
    err(`tsunagi: ${message.reason} (${message.code})\n${printed.length > 0 ? `It has printed:\n${printed}` : ''}`)
    return EXIT.failed
  }
  if (message.type !== 'reloaded') throw new Error(`process ${status.pid} answered with "${message.type}".`)
  out(`process ${message.successor} serves, generation ${message.generation}: ${message.moved} connections moved\n`)
  for (const [reason, count] of message.later) out(`  ${count} move a little later: ${reason}\n`)
  for (const [reason, count] of message.staying) out(`  ${count} drain in process ${status.pid}: ${reason}\n`)
  return EXIT.ok
}

function listed({ status }: FoundServer): string {
  return `  --pid ${status.pid}  ${status.program} on ${status.listeners.join(', ')}`
}

/** A version that does not come so far is ended first, and what it has printed is read to its end. */
const PATIENCE_MS = 10_000
