import { override } from '../override.js'
import type { Obstacle } from '../protocol.js'
import type { RequestHead } from '../request-head.js'
import type { Beginning, Dialect } from '../websocket/dialect.js'
import { acknowledge } from '../websocket/sender.js'
import type { WebSocketInternals } from '../websocket/ws.js'
import { type Conversation, conversationOf, GRAPHQL, parse } from './graphql-conversation.js'

/**
 * GraphQL over WebSocket. Its server knows a client by its first message, and has its subscriptions in closures. Both messages are kept as they came, and
 * said once more in the successor: it authenticates, its acknowledgement is not sent, and each subscription begins again at its source. Queries and
 * mutations are never run again: a WebSocket with one of them moves when it is answered.
 *
 * @note PROTOCOL.md of graphql-ws 6: connection_init, connection_ack, subscribe, next, error, complete.
 */
export class GraphqlWsDialect implements Dialect {
  readonly name = GRAPHQL
  speaks({ protocol }: WebSocketInternals): boolean {
    return protocol === this.name || protocol === OLD_PROTOCOL
  }

  obstacleOf(ws: WebSocketInternals): Obstacle | undefined {
    const conversation = conversationOf(ws)
    if (conversation === undefined) return { reason: 'it speaks an old protocol of GraphQL', passes: false }
    if (conversation.init !== undefined && !conversation.isAcknowledged)
      return { reason: 'its client is being authenticated', passes: true }
    const isAnswering = [...conversation.operations.values()].some((operation) => !isSubscription(operation))
    return isAnswering ? { reason: 'a GraphQL operation is being answered', passes: true } : undefined
  }

  snapshot(ws: WebSocketInternals): GraphqlState {
    const { init, operations } = conversationOf(ws) as Conversation
    return { init: init ?? null, subscriptions: [...operations.values()] }
  }

  /** What its subscriptions still yield here they yield there as well. */
  leave(ws: WebSocketInternals): { takeBack(): void; letGo(): void } {
    const conversation = conversationOf(ws) as Conversation
    const held: (() => void)[] = []
    conversation.moved = held
    return {
      takeBack() {
        conversation.moved = undefined
        for (const send of held) send()
      },
      letGo() {
        held.length = 0
        for (const id of conversation.operations.keys()) ws.emit('message', Buffer.from(JSON.stringify({ id, type: 'complete' })), false)
      },
    }
  }

  refuse(state: unknown): string | undefined {
    const { init, subscriptions } = (state ?? {}) as Partial<GraphqlState>
    const isState =
      (init === null || typeof init === 'string') && Array.isArray(subscriptions) && subscriptions.every((one) => typeof one === 'string')
    return isState ? undefined : 'its GraphQL subscriptions are malformed'
  }

  begin(state: unknown, request: RequestHead): Beginning {
    const { init, subscriptions } = state as GraphqlState
    return {
      request,
      received() {},
      meet: (ws) => (init === null ? undefined : new Promise((resolve) => retell(ws, init, subscriptions, resolve))),
    }
  }
}

interface GraphqlState {
  readonly init: string | null
  readonly subscriptions: readonly string[]
}

/** As the client would: once its handler has been run, and each after what the one before it needs. */
function retell(ws: WebSocketInternals, init: string, subscriptions: readonly string[], done: () => void): void {
  const tell = (text: string) => ws.emit('message', Buffer.from(text), false)
  ws.once('close', done)
  setImmediate(() => {
    const { send } = ws // that which notes what is sent
    const undo = override(ws, {
      send(this: WebSocketInternals, data: unknown, ...rest: unknown[]) {
        if (parse(String(data)).type !== 'connection_ack') return Reflect.apply(send, this, [data, ...rest])
        undo()
        const unsend = override(ws._sender, { send: (...args: unknown[]) => acknowledge(args) })
        Reflect.apply(send, this, [data, ...rest])
        unsend()
        setImmediate(() => {
          for (const subscription of subscriptions) tell(subscription) // the server waits for its acknowledgement to be sent
          done()
        })
      },
    } as never)
    tell(init)
  })
}

function isSubscription(text: string): boolean {
  const { query = '', operationName } = parse(text).payload ?? {}
  const bare = query.replaceAll(/#.*/g, '')
  return (operationName ? new RegExp(`\\bsubscription\\s+${operationName}\\b`) : /(^|\})\s*subscription\b/).test(bare)
}

const OLD_PROTOCOL = 'graphql-ws'
