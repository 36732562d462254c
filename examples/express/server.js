/**
 * A chat in Express with ws. It knows nothing of tsunagi: TSUNAGI_MOVE=all node --import tsunagi/register examples/express/server.js, and the same
 * again elsewhere. Clients: npx wscat -H authorization:ada -c ws://127.0.0.1:7014/chat. PORT and HOST say where it listens.
 */
import { createServer } from 'node:http'
import express from 'express'
import { WebSocketServer } from 'ws'

const app = express()
app.get('/', (_request, response) => response.send(`process ${process.pid}\n`))

const server = createServer(app)
const sockets = new WebSocketServer({ server, path: '/chat', verifyClient: ({ req }) => req.headers.authorization !== undefined })

sockets.on('connection', (ws, request) => {
  const user = request.headers.authorization
  console.log(`${user} is here`)
  say(`${user} joined`)
  ws.on('message', (text) => say(`${user}: ${text}`))
  ws.on('error', console.error)
  ws.on('close', (code) => console.log(`${user} left with ${code}`))
})

function say(text) {
  for (const ws of sockets.clients) ws.send(text)
}

server.listen(process.env.PORT ?? 7014, process.env.HOST ?? '127.0.0.1', () => console.log(`process ${process.pid} listens`))
