import { createServer } from 'tsunagi'

/** Gives back what it gets. It holds nothing between two reads, so there is nothing to carry: what is under way moves with the connection. */
export function createBulk() {
  return createServer((socket) => {
    socket.pipe(socket)
    socket.on('error', () => socket.destroy())
  })
}
