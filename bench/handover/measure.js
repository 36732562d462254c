import { fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const here = (name) => fileURLToPath(new URL(name, import.meta.url))

/** `reloads` handovers of an echo server with `connections` connections under pings; each with the steady state right before it. */
export async function measureHandovers({ connections, reloads = 5, rate = 1000, settleMs = 1500, env = {}, nodeArgs = [] }) {
  const directory = mkdtempSync(join(tmpdir(), 'tsunagi-bench-'))
  const port = await freePort()
  const start = async () => {
    const child = spawn(process.execPath, [...nodeArgs, here('server.js')], {
      env: { ...process.env, PORT: String(port), TSUNAGI_DIR: directory, TSUNAGI_LOG: 'silent', ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const messages = []
    const waiting = []
    createInterface({ input: child.stdout }).on('line', (line) => {
      const message = JSON.parse(line)
      waiting.length > 0 ? waiting.shift()(message) : messages.push(message)
    })
    const next = () => (messages.length > 0 ? Promise.resolve(messages.shift()) : new Promise((resolve) => waiting.push(resolve)))
    await next()
    return { child, next }
  }
  let server = await start()
  const clients = fork(here('clients.js'), [port, connections, rate])
  await once(clients, 'message')
  const lap = async () => {
    clients.send('lap')
    return (await once(clients, 'message'))[0]
  }
  const rows = []
  await sleep(settleMs)
  for (let i = 0; i < reloads; i++) {
    await lap()
    await sleep(settleMs)
    const steady = await lap()
    const successor = await start()
    const [took, gave] = await Promise.all([successor.next(), server.next(), once(server.child, 'exit')])
    server = successor
    await sleep(300)
    const during = await lap()
    rows.push({ steady, during, took, gave })
    if (during.broken > 0) throw new Error(`${during.broken} connections broke`)
  }
  clients.send('stop')
  server.child.kill()
  rmSync(directory, { recursive: true, force: true })
  return rows
}

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}
