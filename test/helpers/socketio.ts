import { EventEmitter, once } from 'node:events'
import { io, type ManagerOptions, type Socket, type SocketOptions } from 'socket.io-client'
import { onTestFinished } from 'vitest'

/** A client of socket.io that notes every event that it is sent, and all that happens to its connection. */
export class SocketIoClient {
  readonly socket: Socket
  readonly seen: string[] = []
  readonly #events: unknown[][] = []
  readonly #news = new EventEmitter().setMaxListeners(0)

  private constructor(socket: Socket) {
    this.socket = socket
    socket.onAny((...event) => {
      if ((socket as unknown as { _pid?: string })._pid) event.pop() // where the connection state can be recovered, each has an offset
      this.#events.push(event)
      this.#news.emit('news')
    })
    for (const name of ['disconnect', 'connect_error', 'connect'] as const)
      socket.on(name, (reason?: unknown) => this.#see(`${name} ${reason ?? ''}`))
    socket.io.on('reconnect_attempt', () => this.#see('reconnect'))
  }

  static async connect(
    port: number,
    user: string,
    options: Partial<ManagerOptions & SocketOptions> = {},
    namespace = '',
  ): Promise<SocketIoClient> {
    const socket = io(`http://127.0.0.1:${port}${namespace}`, { auth: { user }, forceNew: true, ...options })
    const client = new SocketIoClient(socket)
    onTestFinished(() => void socket.disconnect())
    await once(socket as unknown as EventEmitter, 'connect')
    client.seen.length = 0
    return client
  }

  /** The next event, with its arguments. */
  async event(): Promise<unknown[]> {
    while (this.#events.length === 0) {
      if (this.seen.length > 0) throw new Error(`the client saw ${this.seen.join(', ')}`)
      await once(this.#news, 'news')
    }
    return this.#events.shift() as unknown[]
  }

  async ask(...event: [string, ...unknown[]]): Promise<unknown> {
    return this.socket.timeout(20_000).emitWithAck(...event)
  }

  /** Resolves once it speaks over a WebSocket. */
  async upgraded(): Promise<void> {
    const { engine } = this.socket.io
    if (engine.transport.name !== 'websocket') await new Promise((resolve) => engine.once('upgrade', resolve))
  }

  get surplus(): readonly unknown[][] {
    return this.#events
  }

  #see(what: string): void {
    this.seen.push(what.trim())
    this.#news.emit('news')
  }
}
