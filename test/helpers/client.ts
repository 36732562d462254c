import { once } from 'node:events'
import { connect, type NetConnectOpts, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'

/** A client that checks every byte and takes note of every sign that its connection is not what it was. */
export class Client {
  readonly socket: Socket
  /** 'end', 'close' and 'error …' in the order in which they came; empty: nothing happened to the connection. */
  readonly seen: string[] = []
  /** Bytes to hold; what is beyond stays with the socket, so that the server feels who reads slowly. */
  #wanted: number
  #chunks: Buffer[] = []
  #length = 0
  #offset = 0

  private constructor(socket: Socket, isReading: boolean) {
    this.socket = socket
    this.#wanted = isReading ? READ_AHEAD : 0
    socket.on('readable', () => this.#socketOnReadable())
    socket.on('end', () => this.seen.push('end'))
    socket.on('close', () => this.seen.push('close'))
    socket.on('error', (error) => this.seen.push(`error ${(error as NodeJS.ErrnoException).code}`))
    onTestFinished(() => void socket.destroy())
  }

  /** Connects. With `idle` it does not read until `expect` is called: what the server writes fills the kernel's buffers, then the server's. */
  static async connect(port: number, options: Partial<NetConnectOpts> & { host?: string; idle?: boolean } = {}): Promise<Client> {
    const { idle = false, ...rest } = options
    const socket = connect({ host: '127.0.0.1', allowHalfOpen: true, ...rest, port } as NetConnectOpts)
    await once(socket, 'connect')
    return new Client(socket, !idle)
  }

  /** Connects several, one after the other, so that the server sees them in this order. */
  static async connectMany(count: number, port: number, options: Parameters<typeof Client.connect>[1] = {}): Promise<Client[]> {
    const clients: Client[] = []
    for (let i = 0; i < count; i++) clients.push(await Client.connect(port, options))
    return clients
  }

  send(data: Uint8Array | string): void {
    this.socket.write(data)
  }

  /** Says that nothing more comes, and goes on reading. */
  end(): void {
    this.socket.end()
  }

  /** Reads as many bytes as `expected` has; throws at the first one that differs. */
  async expect(expected: Uint8Array | string): Promise<void> {
    const wanted = typeof expected === 'string' ? Buffer.from(expected) : expected
    const got = await this.read(wanted.length)
    const at = firstDifference(got, wanted)
    if (at < 0) return
    throw new Error(
      `byte ${this.#offset - wanted.length + at} of the stream differs: got ${excerpt(got, at)}, expected ${excerpt(wanted, at)}`,
    )
  }

  /** Reads this many bytes; rejects when the connection ends before. */
  async read(bytes: number): Promise<Buffer> {
    this.#startReading(bytes)
    while (this.#length < bytes) await this.#news(`${bytes - this.#length} more bytes`)
    const all = Buffer.concat(this.#chunks)
    this.#chunks = [all.subarray(bytes)]
    this.#length = all.length - bytes
    this.#offset += bytes
    this.#wanted = READ_AHEAD
    return all.subarray(0, bytes)
  }

  /** Reads up to the next line feed, which it leaves out. */
  async line(): Promise<string> {
    for (;;) {
      this.#startReading(this.#length + 1)
      const at = Buffer.concat(this.#chunks).indexOf(10)
      if (at >= 0) return (await this.read(at + 1)).toString('utf8', 0, at)
      await this.#news('a line')
    }
  }

  /** Waits for the server's FIN; throws if any byte comes before it. */
  async expectEnd(): Promise<void> {
    this.#startReading(Number.POSITIVE_INFINITY)
    while (!this.seen.includes('end')) await this.#news('the end')
    if (this.#length > 0) throw new Error(`${this.#length} bytes too many: ${excerpt(Buffer.concat(this.#chunks), 0)}`)
  }

  /** Bytes that have come and were not asked for. */
  get surplus(): Buffer {
    this.#startReading(Number.POSITIVE_INFINITY)
    return Buffer.concat(this.#chunks)
  }

  /** Resolves once the connection is closed, in whatever way. */
  async closed(): Promise<void> {
    this.#startReading(Number.POSITIVE_INFINITY)
    this.socket.end()
    while (!this.seen.includes('close')) await this.#event()
  }

  /** Leaves the socket to something that is put on top of it, such as TLS. */
  release(): void {
    this.#wanted = 0
    this.socket.removeAllListeners('readable')
  }

  #startReading(wanted: number): void {
    this.#wanted = Math.max(wanted, READ_AHEAD)
    this.#socketOnReadable()
  }

  #socketOnReadable(): void {
    if (this.#wanted === 0) return
    // With nothing buffered, read() is how the end of the stream is noticed.
    while (this.#length < this.#wanted || this.socket.readableLength === 0) {
      const chunk = this.socket.read() as Buffer | null
      if (chunk === null) return
      this.#chunks.push(chunk)
      this.#length += chunk.length
    }
  }

  async #news(wanted: string): Promise<void> {
    if (this.seen.length > 0) {
      throw new Error(
        `the connection saw ${this.seen.join(', ')} while ${wanted} were awaited; it holds ${excerpt(Buffer.concat(this.#chunks), 0)}`,
      )
    }
    await this.#event()
  }

  async #event(): Promise<void> {
    await new Promise<void>((resolve) => {
      const events = ['readable', 'end', 'close', 'error'] as const
      const settle = () => {
        for (const event of events) this.socket.off(event, settle)
        resolve()
      }
      for (const event of events) this.socket.on(event, settle)
    })
  }
}

/** Asks a server of the fixtures for what it says of itself. */
export async function who(client: Client): Promise<string> {
  client.send('who')
  return client.line()
}

/** Every client says something to an echo all the time, and checks what comes back. */
export function talk(clients: Client[]): { stop(): Promise<void> } {
  let stopped = false
  const talking = clients.map(async (client, i) => {
    for (let n = 0; !stopped; n++) {
      const words = `client ${i} says ${n}, `.repeat(1 + (n % 50))
      client.send(words)
      await client.expect(words)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  })
  const talked = Promise.all(talking)
  talked.catch(() => {}) // whoever stops it is told
  return {
    async stop() {
      stopped = true
      await talked
    },
  }
}

function firstDifference(a: Uint8Array, b: Uint8Array): number {
  if (Buffer.compare(a, b) === 0) return -1
  return a.findIndex((byte, at) => byte !== b[at])
}

function excerpt(bytes: Uint8Array, at: number): string {
  return JSON.stringify(Buffer.from(bytes.subarray(at, at + 24)).toString('latin1'))
}

/** A client that is not idle has read this much by itself: less than a server can fill it with for ever. */
const READ_AHEAD = 1_000_000
