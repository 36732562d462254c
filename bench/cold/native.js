// Dump, close, restore, hold and release in the addon, against the same system calls in plain C, in one run. Runs in a network namespace of its own,
// prints one line of JSON.
//
//   native.js <floor> <connections> <unread bytes in each> <rounds>
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))
const floor = process.argv[2]
const [connections, bytes, rounds] = process.argv.slice(3).map(Number)
const NONE = new Uint8Array(0)

const native = createRequire(import.meta.url)('node-gyp-build')(root)
native.holdCreate()
const samples = { c: [], addon: [] }
// One after the other in each round, so that both meet the same machine; the first round warms up.
for (let round = 0; round <= rounds; round++) {
  const run = spawnSync(floor, ['loop', String(connections), String(bytes)], { encoding: 'utf8' })
  if (run.status !== 0) throw new Error(`the C loop failed: ${run.stderr}`)
  const addon = await measureAddon(native, floor)
  if (round === 0) continue
  samples.c.push(JSON.parse(run.stdout))
  samples.addon.push(addon)
}
console.log(JSON.stringify(samples))

async function measureAddon(native, floor) {
  const path = join(dirname(floor), 'fds')
  const listener = native.listenUnix(`${path}.private`, path, 1)
  const peers = spawn(floor, ['peers', String(connections), String(bytes), path], { stdio: ['pipe', 'inherit', 'inherit'] })
  const fds = await receiveFds(native, listener)
  const { port } = native.socketAddresses(fds[0]).local
  const ports = Int32Array.of(port)
  native.growFdTable(connections * 2 + 100)

  const times = {}
  const timed = (phase, each, call) => {
    const start = process.hrtime.bigint()
    const result = call()
    times[phase] = Number(process.hrtime.bigint() - start) / 1000 / each
    return result
  }
  timed('hold', 1, () => native.holdAdd(ports, NONE, 60_000))
  const record = timed('dump', connections, () => native.dumpConnections(fds, native.enterRepair(fds), true))
  timed('close', connections, () => native.closeFds(fds))
  const { figures, tuples, names, queues } = record
  const results = timed('restore', connections, () => native.restoreConnections(figures, tuples, names, queues, false))
  timed('release', 1, () => native.holdRelease(ports, NONE))
  const restored = Int32Array.from({ length: connections }, (_, row) => results[row * (results.length / connections)])
  const entered = new Int32Array(connections).fill(1)
  timed('leave', connections, () => native.leaveRepair(restored, entered, true))

  if (restored.includes(-1)) throw new Error('not every connection was restored')
  native.closeFds(restored)
  peers.stdin.end()
  await once(peers, 'exit')
  return times
}

async function receiveFds(native, listener) {
  const fds = []
  native.pollReadable(Int32Array.of(listener), 10_000)
  const channel = native.acceptUnix(listener)
  for (;;) {
    const message = native.receiveMessage(channel, new Uint8Array(1), 60_000)
    if (message.bytes === 0) break
    fds.push(...message.fds)
  }
  native.closeFds(Int32Array.of(channel, listener))
  return Int32Array.from(fds)
}
