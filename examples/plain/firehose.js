/**
 * Sends the same few lines for ever, as fast as each client reads. It knows nothing of tsunagi:
 * TSUNAGI_MOVE=all node --import tsunagi/register examples/plain/firehose.js, and the same again elsewhere. PORT and HOST say where it listens.
 */
import { createServer } from 'node:net'

const lines = Array.from({ length: 1000 }, (_, number) => `line ${number} of this endless text\n`).join('')

const server = createServer((socket) => {
  pour(socket)
  socket.on('drain', () => pour(socket))
  socket.on('error', () => socket.destroy())
})

function pour(socket) {
  while (socket.writable && socket.write(lines));
}

server.listen(process.env.PORT ?? 7003, process.env.HOST ?? '127.0.0.1', () => console.log(`process ${process.pid} listens`))
