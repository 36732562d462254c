/**
 * A chat in Hono on Node. It knows nothing of tsunagi: TSUNAGI_MOVE=all node --import tsunagi/register examples/hono/server.js, and the same again
 * elsewhere. Clients: npx wscat -H authorization:ada -c ws://127.0.0.1:7016/chat. PORT and HOST say where it listens.
 */
import { serve, upgradeWebSocket } from '@hono/node-server'
import { Hono } from 'hono'
import { WebSocketServer } from 'ws'

const app = new Hono()
const sockets = new WebSocketServer({ noServer: true })

app.get('/', (context) => context.text(`process ${process.pid}\n`))

app.use('/chat', (context, next) => (context.req.header('authorization') === undefined ? context.text('Who are you?\n', 401) : next()))
app.get(
  '/chat',
  upgradeWebSocket((context) => {
    const user = context.req.header('authorization')
    return {
      onOpen(_event, ws) {
        console.log(`${user} is here`)
        ws.send(`welcome ${user}`)
      },
      onMessage({ data }) {
        for (const ws of sockets.clients) ws.send(`${user}: ${data}`)
      },
      onClose({ code }) {
        console.log(`${user} left with ${code}`)
      },
    }
  }),
)

const address = { port: Number(process.env.PORT ?? 7016), hostname: process.env.HOST ?? '127.0.0.1' }
serve({ fetch: app.fetch, websocket: { server: sockets }, ...address }, () => console.log(`process ${process.pid} listens`))
