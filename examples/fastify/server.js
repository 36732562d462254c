/**
 * A chat in Fastify with @fastify/websocket. It knows nothing of tsunagi: TSUNAGI_MOVE=all node --import tsunagi/register
 * examples/fastify/server.js, and the same again elsewhere. Clients: npx wscat -H authorization:ada -c ws://127.0.0.1:7015/chat.
 * PORT and HOST say where it listens.
 */
import websocket from '@fastify/websocket'
import { fastify } from 'fastify'

const app = fastify()
await app.register(websocket)

app.get('/', async () => `process ${process.pid}\n`)

const preValidation = async ({ headers }, reply) => {
  if (headers.authorization === undefined) return reply.code(401).send('Who are you?\n')
}
app.get('/chat', { websocket: true, preValidation }, (ws, request) => {
  const user = request.headers.authorization
  console.log(`${user} is here`)
  say(`${user} joined`)
  ws.on('message', (text) => say(`${user}: ${text}`))
  ws.on('close', (code) => console.log(`${user} left with ${code}`))
})

function say(text) {
  for (const ws of app.websocketServer.clients) ws.send(String(text))
}

await app.listen({ port: process.env.PORT ?? 7015, host: process.env.HOST ?? '127.0.0.1' })
console.log(`process ${process.pid} listens`)
