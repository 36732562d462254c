import { promisify } from 'node:util'

let last

/** The report of the handover by which this process took over; `undefined` for the first process of a line. */
export const lastHandover = () => last

/** What programs are told: curl -H 'Accept: application/json' 127.0.0.1:3000 */
export function createStatus(servers) {
  for (const server of Object.values(servers)) {
    server.on('resumed', (report) => {
      last = { at: new Date().toISOString(), ...report }
    })
  }
  return async function status() {
    const connections = {}
    for (const [name, server] of Object.entries(servers)) connections[name] = await promisify(server.getConnections).call(server)
    return { generation: last?.generation ?? 1, pid: process.pid, connections, lastHandover: last ?? null }
  }
}
