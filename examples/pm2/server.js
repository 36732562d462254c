// A server that knows nothing of tsunagi: it says who serves, over HTTP and to everybody on a WebSocket.
import { createServer } from 'node:http'
import { WebSocketServer } from 'ws'

const server = createServer((_request, response) => response.end(`worker ${process.pid}\n`))
const sockets = new WebSocketServer({ server })
sockets.on('connection', (socket) => socket.on('message', (words) => socket.send(`worker ${process.pid} heard: ${words}`)))
server.listen(process.env.PORT)
