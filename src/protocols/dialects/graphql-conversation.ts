/** What was said on a WebSocket that speaks GraphQL, as far as its server has to be told it again. Others cost a look at their subprotocol. */
import { override } from '../override.js'
import type { WebSocketInternals } from '../websocket/ws.js'

export interface Conversation {
  /** Messages as they came: what the client began with, and what it has asked for and not been answered in full, by id. */
  init: string | undefined
  isAcknowledged: boolean
  readonly operations: Map<string, string>
  /** It has moved: what subscriptions still yielded until the successor had resumed. */
  moved: (() => void)[] | undefined
}

interface Message {
  readonly id?: string
  readonly type?: string
  readonly payload?: { readonly query?: string; readonly operationName?: string | null }
}

/** Nobody has this WebSocket yet. */
export function noteConversation(ws: WebSocketInternals): void {
  if (ws.protocol !== GRAPHQL || conversations.has(ws)) return
  const conversation: Conversation = { init: undefined, isAcknowledged: false, operations: new Map(), moved: undefined }
  conversations.set(ws, conversation)
  ws.on('message', (data: unknown) => hear(conversation, String(data)))
  const { send } = ws
  override(ws, {
    send(this: WebSocketInternals, data: unknown, ...rest: unknown[]) {
      const act = () => Reflect.apply(send, this, [data, ...rest])
      if (say(conversation, String(data), act)) return act()
      const callback = rest.find((candidate) => typeof candidate === 'function')
      if (callback) process.nextTick(callback as () => void)
    },
  } as never)
}

export function conversationOf(ws: WebSocketInternals): Conversation | undefined {
  return conversations.get(ws)
}

function hear(conversation: Conversation, text: string): void {
  const { id = '', type } = parse(text)
  if (type === 'connection_init') conversation.init = text
  else if (type === 'subscribe') conversation.operations.set(id, text)
  else if (type === 'complete') conversation.operations.delete(id)
}

/** Whether it is to be sent. */
function say(conversation: Conversation, text: string, send: () => void): boolean {
  const { id = '', type } = parse(text)
  if (conversation.moved && YIELDED.has(type ?? '')) {
    conversation.moved.push(send)
    return false
  }
  if (type === 'connection_ack') conversation.isAcknowledged = true
  else if (type === 'complete' || type === 'error') conversation.operations.delete(id)
  return true
}

export function parse(text: string): Message {
  try {
    return (JSON.parse(text) ?? {}) as Message
  } catch {
    return {} // whoever it is for will say so
  }
}

export const GRAPHQL = 'graphql-transport-ws'
const conversations = new WeakMap<WebSocketInternals, Conversation>()
const YIELDED = new Set(['next', 'error', 'complete'])
