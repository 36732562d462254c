// An echo server, plain or with tsunagi/register in front of it: the same file.
import net from 'node:net'

const server = net.createServer({ noDelay: true }, (socket) => {
  socket.on('data', (bytes) => socket.write(bytes))
  socket.on('error', () => {}) // its clients leave by a reset, so that no port stays in TIME_WAIT
})
server.listen(0, '127.0.0.1', () => process.send?.({ port: server.address().port }))
process.on('message', () => process.send(process.cpuUsage()))
