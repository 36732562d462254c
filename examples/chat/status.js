import { createServer } from 'node:http'
import { promisify } from 'node:util'
import { attach } from 'tsunagi'

let last

/** The report of the handover by which this process took over; `undefined` for the first process of a line. */
export const lastHandover = () => last

/** A page for people, and the same as JSON for programs: curl -H 'Accept: application/json' 127.0.0.1:3000 */
export function createStatus(servers) {
  for (const server of Object.values(servers)) {
    server.on('resumed', (report) => {
      last = { at: new Date().toISOString(), ...report }
    })
  }
  return attach(createServer(serverOnRequest))

  async function serverOnRequest(request, response) {
    const status = await collect(servers)
    const wantsJson = request.headers.accept?.includes('application/json')
    response.setHeader('Content-Type', wantsJson ? 'application/json' : 'text/html; charset=utf-8')
    response.setHeader('Cache-Control', 'no-store')
    response.end(wantsJson ? `${JSON.stringify(status, null, 2)}\n` : page(status))
  }
}

async function collect(servers) {
  const connections = {}
  for (const [name, server] of Object.entries(servers)) connections[name] = await promisify(server.getConnections).call(server)
  return { generation: last?.generation ?? 1, pid: process.pid, connections, lastHandover: last ?? null }
}

function page({ generation, pid, connections, lastHandover: handover }) {
  const rows = {
    generation,
    pid,
    'chat connections': connections.chat,
    'bulk connections': connections.bulk,
    'last handover': handover
      ? `${handover.at}: ${handover.moved} connections from process ${handover.predecessor} in ${milliseconds(handover.phases)} ms`
      : 'none yet: start it again in another terminal',
  }
  const cells = Object.entries(rows).map(([name, value]) => `<tr><th align="left">${name}<td>${value}`)
  return `<!doctype html><meta http-equiv="refresh" content="1"><title>tsunagi chat</title><table cellpadding="6">${cells.join('')}</table>\n`
}

/** From the first byte of the record until every connection had its handler again. */
const milliseconds = (phases) => (Object.values(phases).reduce((sum, microseconds) => sum + microseconds, 0) / 1000).toFixed(1)
