/**
 * GraphQL over WebSocket: whoever is subscribed to `said` gets what anybody says. It knows nothing of tsunagi: TSUNAGI_MOVE=ws node --import
 * tsunagi/register examples/web/graphql.js, and the same again elsewhere. PORT and HOST say where it listens.
 */
import { EventEmitter, on } from 'node:events'
import { createServer } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { buildSchema } from 'graphql'
import { useServer } from 'graphql-ws/use/ws'
import { WebSocketServer } from 'ws'

const news = new EventEmitter().setMaxListeners(0)
let count = 0

const schema = buildSchema(`
  type Query { pid: Int! }
  type Mutation { say(text: String!): Int! saySlowly(text: String!): Int! }
  type Subscription { said: String! }
`)

const roots = {
  query: { pid: () => process.pid },
  mutation: {
    say({ text }) {
      news.emit('said', text)
      return ++count
    },
    async saySlowly({ text }) {
      await delay(1000)
      return roots.mutation.say({ text })
    },
  },
  subscription: {
    async *said() {
      for await (const [said] of on(news, 'said')) yield { said }
    },
  },
}

const server = createServer((_request, response) => response.writeHead(426).end())
const sockets = new WebSocketServer({ server })
useServer({ schema, roots, onConnect: ({ connectionParams }) => connectionParams?.user !== undefined }, sockets)

server.listen(process.env.PORT ?? 7011, process.env.HOST ?? '127.0.0.1', () => console.log(`process ${process.pid} listens`))
