import { EventEmitter, once } from 'node:events'
import type { Socket } from 'node:net'
import { onTestFinished } from 'vitest'
import WebSocket, { type ClientOptions } from 'ws'

/** A client that notes all that its connection tells it. It expects message by message, with their content. */
export class WebSocketClient {
  readonly ws: WebSocket
  /** Everything but messages that happened to it. */
  readonly seen: string[] = []
  readonly #messages: (string | Buffer)[] = []
  readonly #news = new EventEmitter().setMaxListeners(0)

  private constructor(ws: WebSocket) {
    this.ws = ws
    ws.on('message', (data: Buffer, isBinary) => {
      this.#messages.push(isBinary ? data : String(data))
      this.#news.emit('news')
    })
    ws.on('close', (code, reason) => this.#see(`close ${code} ${reason}`.trim()))
    ws.on('error', (error) => this.#see(`error ${error.message}`))
    ws.on('pong', (data) => this.#see(`pong ${data}`))
  }

  static async connect(port: number, path = '/', options: ClientOptions = {}, subprotocols: string[] = []): Promise<WebSocketClient> {
    const ws = new WebSocket(`ws://127.0.0.1:${port}${path}`, subprotocols, { perMessageDeflate: false, ...options })
    const client = new WebSocketClient(ws)
    onTestFinished(() => ws.terminate())
    await once(ws, 'open')
    return client
  }

  /** The next message. */
  async message(): Promise<string | Buffer> {
    while (this.#messages.length === 0) {
      if (this.ws.readyState === WebSocket.CLOSED) throw new Error(`the WebSocket saw ${this.seen.join(', ')}`)
      await once(this.#news, 'news')
    }
    return this.#messages.shift() as string | Buffer
  }

  /** Sends, and gives the next message. */
  async ask(data: string | Buffer): Promise<string | Buffer> {
    this.ws.send(data)
    return this.message()
  }

  async until(what: string): Promise<void> {
    while (!this.seen.some((seen) => seen.startsWith(what))) await once(this.#news, 'news')
  }

  /** From now on only `bytes` more go out; what is behind them waits for the returned function. */
  holdAfter(bytes: number): () => void {
    const { _socket: socket } = this.ws as unknown as { _socket: Socket }
    const { write } = Object.getPrototypeOf(socket) as { write(chunk: Uint8Array): boolean }
    const held: Buffer[] = []
    const callbacks: (() => void)[] = []
    let left = bytes
    socket.write = ((chunk: string | Uint8Array, encoding?: unknown, callback = encoding) => {
      const data = Buffer.from(chunk as string)
      if (left > 0) write.call(socket, data.subarray(0, left))
      held.push(data.subarray(left))
      left = Math.max(0, left - data.length)
      if (typeof callback === 'function') callbacks.push(callback as () => void) // it may end the connection
      return true
    }) as Socket['write']
    return () => {
      delete (socket as Partial<Socket>).write
      socket.write(Buffer.concat(held))
      for (const callback of callbacks) callback()
    }
  }

  /** Messages that came and nobody has expected. */
  get surplus(): readonly (string | Buffer)[] {
    return this.#messages
  }

  #see(what: string): void {
    this.seen.push(what)
    this.#news.emit('news')
  }
}
