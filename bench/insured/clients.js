// Connections that are busy in every way: a third take in all that comes, a third send all they can, a third ask and wait for the answer.
// Says per lap how long the longest silence of each kind was: between two chunks, between two writes that the kernel took, for an answer.
import { once } from 'node:events'
import net from 'node:net'

const [port, count] = process.argv.slice(2).map(Number)
const KINDS = ['download', 'upload', 'question']
const BLOCK = Buffer.alloc(64 * 1024, 'b')
const longest = {}
let bytes = 0
let broken = 0

for (let i = 0; i < count; i++) {
  const kind = KINDS[i % KINDS.length]
  const socket = net.connect(port, '127.0.0.1')
  await once(socket, 'connect')
  socket.on('close', () => broken++)
  socket.on('error', () => {})
  socket.write(kind[0])
  let last = performance.now()
  const alive = () => {
    const now = performance.now()
    longest[kind] = Math.max(longest[kind] ?? 0, now - last)
    last = now
  }
  socket.on('data', (chunk) => {
    bytes += chunk.length
    alive()
    if (kind === 'download') {
      // It takes less than it could, so that neither side ever waits for a processor.
      socket.pause()
      setTimeout(() => socket.resume(), 1)
    }
    if (kind === 'question') setTimeout(() => socket.write('?'), 1)
  })
  if (kind === 'upload') {
    const send = () => {
      bytes += BLOCK.length
      socket.write(BLOCK, () => {
        alive()
        setTimeout(send, 1)
      })
    }
    send()
  }
  if (kind === 'question') socket.write('?')
}

process.on('message', () => {
  process.send({ longest: { ...longest }, megabytes: bytes / 1e6, broken })
  for (const kind of KINDS) longest[kind] = 0
  bytes = 0
})
process.send('connected')
