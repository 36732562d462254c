import { fork } from 'node:child_process'
import { once } from 'node:events'
import net from 'node:net'
import { fileURLToPath } from 'node:url'

const server = fileURLToPath(new URL('server.js', import.meta.url))

const REGISTERED = ['--import', 'tsunagi/register']
/** What is compared with what. */
const COMPARISONS = {
  register: [{ execArgv: REGISTERED }, { execArgv: [] }],
  survive: [
    { execArgv: REGISTERED, env: { TSUNAGI_MOVE: 'raw', TSUNAGI_SURVIVE: '1' } },
    { execArgv: REGISTERED, env: { TSUNAGI_MOVE: 'raw' } },
  ],
}

/** CPU of the server per operation, one way against the other, in interleaved pairs: ratios, one for each pair. */
export async function measureSteady(comparison, { pairs = 6, echoes = 30_000, accepts = 3_000 } = {}) {
  const ratios = { echo: [], accept: [] }
  const ways = COMPARISONS[comparison]
  for (let i = 0; i < pairs; i++) {
    const order = i % 2 === 0 ? [0, 1] : [1, 0]
    const figures = []
    for (const way of order) figures[way] = await measureOne(ways[way], echoes, accepts)
    for (const name of Object.keys(ratios)) ratios[name].push(figures[0][name] / figures[1][name])
  }
  return ratios
}

async function measureOne({ execArgv, env }, echoes, accepts) {
  const child = fork(server, { execArgv, env: { ...process.env, ...env } })
  const [{ port }] = await once(child, 'message')
  const cpu = async () => {
    child.send('cpu')
    const [{ user, system }] = await once(child, 'message')
    return user + system
  }
  await echo(port, echoes / 4)
  await connect(port, accepts / 4)
  const start = await cpu()
  await echo(port, echoes)
  const middle = await cpu()
  await connect(port, accepts)
  const end = await cpu()
  child.kill()
  return { echo: (middle - start) / echoes, accept: (end - middle) / accepts }
}

/** 64-byte echoes over 20 connections, one in flight on each. */
async function echo(port, count) {
  const sockets = await Promise.all(Array.from({ length: 20 }, () => open(port)))
  let left = count
  await Promise.all(
    sockets.map(
      (socket) =>
        new Promise((resolve) => {
          const next = () => (left-- > 0 ? socket.write(PING) : resolve())
          socket.on('data', next)
          next()
        }),
    ),
  )
  for (const socket of sockets) socket.destroy()
}

async function connect(port, count) {
  for (let i = 0; i < count; i += 10) {
    await Promise.all(
      Array.from({ length: 10 }, async () => {
        const socket = await open(port)
        socket.write(PING)
        await once(socket, 'data')
        socket.resetAndDestroy()
      }),
    )
  }
}

async function open(port) {
  const socket = net.connect({ port, host: '127.0.0.1', noDelay: true })
  await once(socket, 'connect')
  return socket
}

const PING = Buffer.alloc(64, 'p')
