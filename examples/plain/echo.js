/**
 * Gives every byte back. It knows nothing of tsunagi: TSUNAGI_MOVE=all node --import tsunagi/register examples/plain/echo.js, and the same again
 * elsewhere. PORT and HOST say where it listens.
 */
import { createServer } from 'node:net'

const server = createServer((socket) => {
  socket.pipe(socket)
  socket.on('error', () => socket.destroy())
})

server.listen(process.env.PORT ?? 7002, process.env.HOST ?? '127.0.0.1', () => console.log(`process ${process.pid} listens`))
