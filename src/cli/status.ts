import { chooseServers, WHICH } from './choose-server.js'
import { type Command, EXIT } from './command.js'
import { close, type FoundServer } from './find-servers.js'

export const status: Command = {
  summary: 'shows the servers of this user: generation, connections, what a reload would move, and what would drain and why',
  usage: '[options] [address]',
  arguments: 1,
  options: { ...WHICH, json: { type: 'boolean', says: 'prints one JSON object a server and line' } },
  run(call) {
    const servers = chooseServers(call)
    for (const server of servers) {
      call.output.out(call.options['json'] ? `${JSON.stringify(server.status)}\n` : describe(server))
      close(server)
    }
    if (servers.length === 0) call.output.err('tsunagi: no such server runs.\n')
    return servers.length > 0 ? EXIT.ok : EXIT.failed
  },
}

function describe({ status }: FoundServer): string {
  const named = status.name ? ` "${status.name}"` : ''
  const lines = [
    `${status.program}${named}: process ${status.pid}, generation ${status.generation}, ${status.state} for ${duration(status.uptime)} (tsunagi ${status.version}, Node ${status.node})`,
    ...status.listeners.map((key) => `  listens on ${key}`),
    ...status.moving.map(([rule, count]) => `  ${count} would move: ${rule}`),
    ...status.staying.map(([reason, count]) => `  ${count} would drain: ${reason}`),
  ]
  if (status.moving.length + status.staying.length === 0) lines.push('  no connections')
  return `${lines.join('\n')}\n`
}

function duration(seconds: number): string {
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`
  return `${Math.floor(seconds / 3600)} h`
}
