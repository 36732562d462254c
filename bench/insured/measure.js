// Whether a client can notice that its connection was looked at in repair mode. Runs in a network namespace of its own and prints one line of JSON.
//
//   measure.js <connections> <rounds> <lap ms> <looks a second>
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import net from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { tcpCounters } from '../proof/namespace.js'

const [connections, rounds, lapMs, rate] = process.argv.slice(2).map(Number)
const native = createRequire(import.meta.url)('node-gyp-build')(fileURLToPath(new URL('../..', import.meta.url)))

/** Ways of looking at all connections, from not at all to as a snapshot under a packet hold does, but without the hold. */
const ways = {
  none: () => {},
  glimpse: (fds) => native.glimpseConnections(fds),
  whole: (fds) => {
    const entered = native.enterRepair(fds)
    native.dumpConnections(fds, entered, true)
    native.leaveRepair(fds, entered, false)
  },
}

const BLOCK = Buffer.alloc(64 * 1024, 'd')
const sockets = new Set()
const server = net.createServer((socket) => {
  sockets.add(socket)
  socket.on('error', () => {})
  socket.once('data', (first) => {
    if (first[0] === 0x64) {
      // Never less than the kernel takes: something is always unsent.
      const send = () => socket.write(BLOCK, send)
      for (let blocks = 0; blocks < 4; blocks++) send()
    } else if (first[0] === 0x71) {
      socket.on('data', (chunk) => socket.write(chunk))
      if (first.length > 1) socket.write(first.subarray(1))
    }
  })
  socket.on('data', () => {})
})
server.listen(0, '127.0.0.1')
await once(server, 'listening')
const clients = fork(fileURLToPath(new URL('clients.js', import.meta.url)), [server.address().port, connections])
await once(clients, 'message')
const lap = async () => {
  clients.send('lap')
  return (await once(clients, 'message'))[0]
}

const samples = Object.fromEntries(Object.keys(ways).map((way) => [way, []]))
await sleep(lapMs) // the windows open
for (let round = 0; round < rounds; round++) {
  for (const [way, look] of Object.entries(ways)) {
    await sleep(lapMs) // what the way before has done to the connections is over
    await lap()
    const before = tcpCounters()
    const until = performance.now() + lapMs
    let looks = 0
    let us = 0
    while (performance.now() < until) {
      await sleep(1000 / rate)
      const fds = Int32Array.from(sockets, (socket) => socket._handle.fd)
      const start = performance.now()
      look(fds)
      us += (performance.now() - start) * 1000
      looks++
    }
    const seen = await lap()
    const after = tcpCounters()
    samples[way].push({ ...seen, looks, us: us / looks / connections, retransmits: after.RetransSegs - before.RetransSegs })
  }
}
console.log(JSON.stringify(samples))
clients.kill()
process.exit(0)
