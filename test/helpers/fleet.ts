import { once } from 'node:events'
import http from 'node:http'
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { onTestFinished } from 'vitest'
import WebSocket from 'ws'

/** The kinds of clients that people have. */
export type Kind = 'raw' | 'keep-alive' | 'websocket'

export interface FleetOptions {
  /** Where an echo of lines over TCP listens, and where one over HTTP (POST /echo) and WebSocket does. */
  raw?: number
  http?: number
  /** Of each kind that is asked for. */
  clients: Partial<Record<Kind, number>>
  /** Milliseconds between an answer and the next question of an ordinary client; one of each kind asks all the time, to see every pause. */
  rest?: number
}

/** What happened to one client that should not have: its connection ended, was made anew, or said something else than it was told. */
export interface Breakage {
  readonly kind: Kind
  readonly what: string
}

/**
 * Clients of a server that is being restarted. Each goes on asking over its one connection, checks every answer to the byte, and takes note of how
 * long it took. None ever connects again: what ends a connection is counted, once.
 */
export class Fleet {
  readonly broken: Breakage[] = []
  readonly #clients: Client[] = []
  #isClosed = false
  readonly #longest = new Map<Kind, number>()

  static async connect({ raw = 0, http = 0, clients, rest = 250 }: FleetOptions): Promise<Fleet> {
    const fleet = new Fleet()
    onTestFinished(() => fleet.close())
    for (const [kind, count] of Object.entries(clients) as [Kind, number][]) {
      const port = kind === 'raw' ? raw : http
      for (let i = 0; i < count; i++) fleet.#clients.push(await fleet.#start(kind, port, i === 0 ? 0 : rest))
    }
    await fleet.settle()
    fleet.forgetPauses()
    return fleet
  }

  get size(): number {
    return this.#clients.length
  }

  /** The longest time that a client has waited for an answer, in milliseconds, by kind. */
  get pauses(): ReadonlyMap<Kind, number> {
    return this.#longest
  }

  forgetPauses(): void {
    this.#longest.clear()
  }

  /** Resolves when every client that is not broken has been answered once more, from now on. */
  async settle(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.nextAnswer()))
  }

  close(): void {
    this.#isClosed = true
    for (const client of this.#clients) client.line.close()
  }

  async #start(kind: Kind, port: number, rest: number): Promise<Client> {
    const client = new Client(await LINES[kind](port))
    void this.#talk(kind, client, rest)
    return client
  }

  async #talk(kind: Kind, client: Client, rest: number): Promise<void> {
    for (let number = 0; ; number++) {
      const question = `${kind} ${client.id} ${number} ${'x'.repeat(number % 50)}`
      const asked = performance.now()
      try {
        const answer = await client.line.ask(question)
        if (answer !== question) throw new Error(`answered ${JSON.stringify(answer)} to ${JSON.stringify(question)}`)
      } catch (error) {
        if (!this.#isClosed) this.broken.push({ kind, what: (error as Error).message })
        client.line.close()
        return client.tellAnswered(true)
      }
      this.#longest.set(kind, Math.max(this.#longest.get(kind) ?? 0, performance.now() - asked))
      client.tellAnswered(false)
      await delay(rest || SHORTEST_REST_MS)
      if (this.#isClosed) return
    }
  }
}

class Client {
  static #count = 0
  readonly id = Client.#count++
  readonly line: TalkingLine
  #waiting: (() => void)[] = []
  #isOver = false

  constructor(line: TalkingLine) {
    this.line = line
  }

  /** The answer to a question that is under way already may be the old process's: two are waited for. */
  async nextAnswer(): Promise<void> {
    for (let answers = 0; answers < 2 && !this.#isOver; answers++) await new Promise<void>((resolve) => this.#waiting.push(resolve))
  }

  tellAnswered(isOver: boolean): void {
    this.#isOver = isOver
    for (const resolve of this.#waiting.splice(0)) resolve()
  }
}

/** One connection on which questions are asked one at a time. */
interface TalkingLine {
  ask(question: string): Promise<string>
  close(): void
}

const LINES: Record<Kind, (port: number) => Promise<TalkingLine>> = {
  raw: rawLine,
  'keep-alive': keepAliveLine,
  websocket: websocketLine,
}

async function rawLine(port: number): Promise<TalkingLine> {
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  socket.setEncoding('utf8')
  let received = ''
  const wait = waiter(socket)
  socket.on('data', (text: string) => {
    received += text
    wait.tell()
  })
  return {
    async ask(question) {
      socket.write(`${question}\n`)
      while (!received.includes('\n')) await wait.next()
      const [line = '', ...rest] = received.split('\n')
      received = rest.join('\n')
      if (received !== '') throw new Error(`said ${JSON.stringify(received)} without being asked`)
      return line
    },
    close: () => socket.destroy(),
  }
}

/** Asks by POST over one connection; an answer that came over another one, or says `Connection: close`, is none. */
async function keepAliveLine(port: number): Promise<TalkingLine> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  let first: Socket | undefined
  return {
    async ask(question) {
      const request = http.request({ host: '127.0.0.1', port, path: '/echo', method: 'POST', agent })
      request.end(question)
      const [response] = (await once(request, 'response')) as [http.IncomingMessage]
      first ??= request.socket ?? undefined
      if (request.socket !== first) throw new Error('had to connect again')
      if (response.headers.connection === 'close') throw new Error('was told that the connection closes')
      let answer = ''
      for await (const chunk of response.setEncoding('utf8')) answer += chunk
      return answer
    },
    close: () => agent.destroy(),
  }
}

async function websocketLine(port: number): Promise<TalkingLine> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/`)
  await once(socket, 'open')
  const wait = waiter(socket)
  const received: string[] = []
  socket.on('message', (data) => {
    received.push(String(data))
    wait.tell()
  })
  return {
    async ask(question) {
      socket.send(question)
      while (received.length === 0) await wait.next()
      const [answer = ''] = received.splice(0, 1)
      if (received.length > 0) throw new Error(`said ${JSON.stringify(received)} without being asked`)
      return answer
    },
    close: () => socket.terminate(),
  }
}

/** Wakes one waiting reader at news, and fails it at the end of the connection. */
function waiter(source: { on(event: string, listener: (...args: never[]) => void): unknown }) {
  let wake: { resolve(): void; reject(reason: Error): void } | undefined
  let over: Error | undefined
  const end = (reason: string) => {
    over ??= new Error(reason)
    wake?.reject(over)
  }
  source.on('error', (error: Error) => end(`saw the error ${error.message}`))
  source.on('end', () => end('saw the end of the connection'))
  source.on('close', () => end('saw the connection close'))
  return {
    tell: () => wake?.resolve(),
    next: () =>
      new Promise<void>((resolve, reject) => {
        if (over) return reject(over)
        wake = { resolve, reject }
      }),
  }
}

/** An ordinary round trip takes a fraction of it. */
const SHORTEST_REST_MS = 5
