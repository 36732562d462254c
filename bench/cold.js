// What saving and restoring connections costs in the addon, against the same system calls in plain C, in one run.
//
//   node bench/cold.js [connections] [unread bytes in each] [rounds]      default: 2000 0 7
//
// Needs root or unprivileged user namespaces, and a C compiler. Everything happens in a network namespace of its own.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const [connections = 2000, bytes = 0, rounds = 7] = process.argv
  .slice(2)
  .filter((argument) => /^\d+$/.test(argument))
  .map(Number)
const NONE = new Uint8Array(0)
const phases = ['hold', 'dump', 'close', 'restore', 'release', 'leave']

if (process.env.TSUNAGI_BENCH_FLOOR) await measure(process.env.TSUNAGI_BENCH_FLOOR)
else enterNamespace()

/** Runs this file again where no other socket and no rule of this machine is. */
function enterNamespace() {
  const folder = mkdtempSync(join(tmpdir(), 'tsunagi-cold-'))
  const floor = join(folder, 'floor')
  try {
    const built = spawnSync(process.env.CC ?? 'cc', ['-O2', '-o', floor, join(root, 'bench', 'cold', 'floor.c')], { stdio: 'inherit' })
    if (built.status !== 0) throw new Error('bench/cold/floor.c could not be built: is a C compiler installed?')
    const unshare = process.getuid() === 0 ? ['--net'] : ['--user', '--map-root-user', '--net']
    const prepare = 'ip link set lo up; echo 1024 65535 > /proc/sys/net/ipv4/ip_local_port_range; exec "$@"'
    const { status } = spawnSync('unshare', [...unshare, 'sh', '-c', prepare, 'sh', process.execPath, ...process.argv.slice(1)], {
      stdio: 'inherit',
      env: { ...process.env, TSUNAGI_BENCH_FLOOR: floor },
    })
    process.exitCode = status ?? 1
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

async function measure(floor) {
  const native = createRequire(import.meta.url)('node-gyp-build')(root)
  native.holdCreate()
  const samples = { c: [], addon: [] }
  // One after the other in each round, so that both meet the same machine; the first round warms up.
  for (let round = 0; round <= rounds; round++) {
    const run = spawnSync(floor, ['loop', String(connections), String(bytes)], { encoding: 'utf8' })
    if (run.status !== 0) throw new Error(`the C loop failed: ${run.stderr}`)
    const c = JSON.parse(run.stdout)
    const addon = await measureAddon(native, floor)
    if (round === 0) continue
    samples.c.push(c)
    samples.addon.push(addon)
  }
  print(samples)
}

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

function print({ c, addon }) {
  const median = (samples, phase) => samples.map((sample) => sample[phase]).sort((a, b) => a - b)[samples.length >> 1]
  console.log(`${connections} connections, ${bytes} unread bytes in each, median of ${rounds} rounds`)
  console.log('                          C, µs   addon, µs   ratio')
  for (const phase of phases) {
    const [floor, ours] = [median(c, phase), median(addon, phase)]
    const each = phase === 'hold' || phase === 'release' ? 'one port' : 'a connection'
    console.log(
      `${phase.padEnd(9)}${each.padEnd(14)}${floor.toFixed(1).padStart(8)}${ours.toFixed(1).padStart(12)}${(ours / floor).toFixed(2).padStart(8)}`,
    )
  }
}
