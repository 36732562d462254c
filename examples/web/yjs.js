/**
 * A server of y-websocket: editors share documents through it. It knows nothing of tsunagi: TSUNAGI_MOVE=ws node --import tsunagi/register
 * examples/web/yjs.js, and the same again elsewhere. PORT and HOST say where it listens.
 */
import { createServer } from 'node:http'
import { WebSocketServer } from 'ws'
import { setupWSConnection } from 'y-websocket/bin/utils'

const server = createServer((_request, response) => response.end('documents are at ws://'))
const sockets = new WebSocketServer({ server })
sockets.on('connection', setupWSConnection)

server.listen(process.env.PORT ?? 7010, process.env.HOST ?? '127.0.0.1', () => console.log(`process ${process.pid} listens`))
