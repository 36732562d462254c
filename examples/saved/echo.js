/**
 * The experiment of the talk that this library comes from: an echo server is stopped, its connections become data, and when it is started again
 * they go on where they were. It needs CAP_NET_ADMIN, or the root of a network namespace: examples/saved/experiment.sh makes two hosts.
 *
 *   TSUNAGI_ON_EXIT=snapshot node examples/saved/echo.js      nc 127.0.0.1 7007, a word, Ctrl-C, a pause, the same command again
 *
 * PORT and HOST say where it listens.
 */
import { createServer, isResumed } from 'tsunagi'

const server = createServer((socket) => {
  if (isResumed(socket)) console.log(`process ${process.pid} goes on with ${socket.remoteAddress}`)
  socket.pipe(socket)
  socket.on('error', () => socket.destroy())
})

server.listen(process.env.PORT ?? 7007, process.env.HOST ?? '127.0.0.1', () => console.log(`process ${process.pid} listens`))
