/**
 * An MQTT broker of aedes, over TCP and over WebSockets. It knows nothing of tsunagi: TSUNAGI_MOVE=all node --import tsunagi/register
 * examples/web/mqtt.js, and the same again elsewhere. PORT, WS_PORT and HOST say where it listens. Its clients stay connected: their sessions move, and
 * so does what the broker has in memory.
 */
import { createServer as createHttpServer } from 'node:http'
import { createServer } from 'node:net'
import { Aedes } from 'aedes'
import { createWebSocketStream, WebSocketServer } from 'ws'

const broker = await Aedes.createBroker()
const host = process.env.HOST ?? '127.0.0.1'
const web = createHttpServer((_request, response) => response.writeHead(426).end())
const sockets = new WebSocketServer({ server: web, handleProtocols: (offered) => (offered.has('mqtt') ? 'mqtt' : false) })
sockets.on('connection', (ws, request) => broker.handle(createWebSocketStream(ws), request))

web.listen(process.env.WS_PORT ?? 7013, host, () => {
  createServer(broker.handle).listen(process.env.PORT ?? 7012, host, () => console.log(`process ${process.pid} listens`))
})
