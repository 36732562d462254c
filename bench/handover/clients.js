// Many connections, pinged in turn at a constant rate whether or not answers come (open loop). Says how long each answer took.
import { once } from 'node:events'
import net from 'node:net'

const [port, count, rate] = process.argv.slice(2).map(Number)
const PING = Buffer.alloc(16, 'p')
const sockets = []
let worst = 0
const took = []
let broken = 0

for (let i = 0; i < count; i++) {
  const socket = net.connect(port, '127.0.0.1')
  await once(socket, 'connect')
  socket.setNoDelay(true)
  const sent = []
  let bytes = 0
  socket.on('data', (chunk) => {
    bytes += chunk.length
    while (bytes >= PING.length && sent.length > 0) {
      bytes -= PING.length
      const ms = performance.now() - sent.shift()
      took.push(ms)
      if (ms > worst) worst = ms
    }
  })
  socket.on('close', () => broken++)
  socket.on('error', () => {})
  sockets.push({ socket, sent })
}

let next = 0
let due = performance.now()
const timer = setInterval(() => {
  for (const now = performance.now(); due <= now; due += 1000 / rate) {
    const { socket, sent } = sockets[next++ % count]
    // From the moment it was due: a client that was late itself does not make the answer look quicker.
    sent.push(due)
    socket.write(PING)
  }
}, 1)

process.on('message', (message) => {
  if (message === 'lap') {
    took.sort((a, b) => a - b)
    const at = (q) => took[Math.min(took.length - 1, Math.floor(took.length * q))] ?? 0
    process.send({ pings: took.length, p50: at(0.5), p99: at(0.99), max: worst, broken })
    took.length = 0
    worst = 0
  } else if (message === 'stop') {
    clearInterval(timer)
    process.exit(0)
  }
})
process.send('connected')
