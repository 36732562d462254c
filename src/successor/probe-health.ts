import type { IncomingMessage } from 'node:http'
import { createRequire } from 'node:module'
import { type Server, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { AttachedServer } from '../attached-server.js'
import { TsunagiError } from '../errors.js'
import type { Installation } from '../installation.js'
import { healthCheck } from '../options.js'

/**
 * Asks the new version's own server whether it is well, before it says that it is ready: while it is not, it may ask again and again, and the predecessor serves.
 * The request comes in over a socket pair of which one end is given to the server as a connection, so that it is the real middleware that answers.
 * Does nothing where no path is set. Throws ERR_TSUNAGI_HEALTH.
 */
export async function probeHealth({ env }: Installation, servers: Iterable<AttachedServer>): Promise<void> {
  const check = healthCheck(env.environment)
  if (check === undefined) return
  const server = httpServerOf(servers)
  if (server === undefined) throw unwell(`there is no HTTP server that could be asked for ${check.path}`)
  const end = env.now() + check.timeout
  for (let said: string | undefined; ; ) {
    const answer = await ask(env, server, check.path, Math.max(1, end - env.now()))
    if (answer === 'well') return
    if (said === undefined || env.now() < end) said = answer // the last try is cut short: that it got no answer says nothing
    if (env.now() >= end) throw unwell(`GET ${check.path} ${said}, for ${check.timeout / 1000} s`)
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
  }
}

/** Asks once, of a version that has been well. What is wrong, if anything. */
export async function askHealth({ env }: Installation, servers: Iterable<AttachedServer>): Promise<string | undefined> {
  const check = healthCheck(env.environment)
  const server = check && httpServerOf(servers)
  if (!check || !server) return undefined
  const answer = await ask(env, server, check.path, Math.max(1, check.timeout))
  return answer === 'well' ? undefined : `GET ${check.path} ${answer}`
}

function httpServerOf(servers: Iterable<AttachedServer>): Server | undefined {
  return [...servers].map(({ server }) => server).find((each) => 'closeIdleConnections' in each)
}

async function ask({ native }: Installation['env'], server: Server, path: string, timeout: number): Promise<string> {
  const [near, far] = native.socketPair()
  server.emit('connection', new Socket({ fd: far, readable: true, writable: true }))
  const socket = clientOf(server, new Socket({ fd: near, readable: true, writable: true }))
  const { get } = createRequire(import.meta.url)('node:http') as typeof import('node:http')
  const headers = { host: 'localhost', connection: 'close', 'user-agent': 'tsunagi' }
  return new Promise((resolve) => {
    const timer = setTimeout(() => socket.destroy(new Error('no answer')), timeout)
    const request = get({ createConnection: () => socket, path, headers }, (response: IncomingMessage) => {
      const { statusCode = 0 } = response
      response.resume() // its body is of no interest, and the server waits until it is read
      settle(statusCode >= 200 && statusCode < 400 ? 'well' : `was answered with ${statusCode}`)
    })
    request.on('error', ({ message }) => settle(`failed: ${message}`))

    function settle(answer: string): void {
      clearTimeout(timer)
      resolve(answer)
    }
  })
}

/** An https server wants to be spoken to as one; its certificate is not for this end of the wire. */
function clientOf(server: Server, socket: Socket): Duplex {
  if (!('addContext' in server)) return socket
  const { connect } = createRequire(import.meta.url)('node:tls') as typeof import('node:tls')
  return connect({ socket, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] })
}

function unwell(reason: string): TsunagiError {
  return new TsunagiError('ERR_TSUNAGI_HEALTH', `The new version is not well: ${reason}. The predecessor goes on serving.`, {
    phase: 'arm',
    serving: true,
  })
}

const PAUSE_MS = 100
