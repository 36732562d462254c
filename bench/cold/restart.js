// A whole cold restart: an echo server under pings is stopped, nobody is there for a while, it is started again. Runs in a network namespace of
// its own, prints one line of JSON for each restart.
//
//   restart.js <connections> <ms between the end and the start> <restarts>
import { fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const [connections, pause, restarts] = process.argv.slice(2).map(Number)
const here = (name) => fileURLToPath(new URL(name, import.meta.url))
const PORT = '7000'
const RATE = 1000
const directory = mkdtempSync(join(tmpdir(), 'tsunagi-bench-'))
const environment = { ...process.env, PORT, TSUNAGI_DIR: directory, TSUNAGI_LOG: 'silent', TSUNAGI_ON_EXIT: 'snapshot' }

let server = await start('listening')
const clients = fork(here('../handover/clients.js'), [PORT, connections, RATE])
await once(clients, 'message')
const lap = async () => {
  clients.send('lap')
  return (await once(clients, 'message'))[0]
}
await sleep(1500)
for (let restart = 0; restart < restarts; restart++) {
  await lap()
  await sleep(1500)
  const steady = await lap()
  const stopped = performance.now()
  server.kill('SIGINT')
  await once(server, 'exit')
  const gone = performance.now()
  await sleep(pause)
  server = await start('resumed')
  const resumed = performance.now()
  await sleep(connections / RATE > 1 ? (connections / RATE) * 500 + 2000 : 2000) // each has been asked since
  const during = await lap()
  if (during.broken > 0) throw new Error(`${during.broken} connections broke`)
  console.log(JSON.stringify({ leave: gone - stopped, gap: resumed - stopped, silence: during.max, steady: steady.max }))
}
clients.send('stop')
server.kill('SIGKILL')
await once(server, 'exit')
rmSync(directory, { recursive: true, force: true })

/** Resolves when the server listens, or has everything that was saved. */
async function start(event) {
  const child = spawn(process.execPath, [here('../handover/server.js')], { env: environment, stdio: ['ignore', 'pipe', 'inherit'] })
  for await (const line of createInterface({ input: child.stdout })) {
    const message = JSON.parse(line)
    if (message === event || (event === 'resumed' && message.role === 'successor')) return child
  }
  throw new Error(`the server ended before it was ${event}`)
}
