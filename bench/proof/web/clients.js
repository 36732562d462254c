import { request } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { io } from 'socket.io-client'
import { Pool } from 'undici'
import { WebSocket } from 'ws'

/** What one kind of clients has seen. */
export class Row {
  clients = 0
  sent = 0
  answered = 0
  closed = 0
  failed = 0
  lost = 0
  repeated = 0
  greetingsRepeated = 0
  /** What was seen first of it, in words. */
  example = ''

  constructor(kind) {
    this.kind = kind
  }

  hurt(how, why) {
    this[how]++
    this.example ||= `${how}: ${why}`
  }
}

/** Numbers that come back in the order in which they were sent. */
class Numbers {
  #row
  #next = 0
  sent = 0

  constructor(row) {
    this.#row = row
  }

  send() {
    this.#row.sent++
    return this.sent++
  }

  take(number) {
    this.#row.answered++
    if (number < this.#next) return this.#row.hurt('repeated', `${number} came once more`)
    for (; this.#next < number; this.#next++) this.#row.hurt('lost', `${this.#next} was followed by ${number}`)
    this.#next = number + 1
  }

  async settle() {
    for (let i = 0; i < 100 && this.#next < this.sent; i++) await delay(50)
    for (; this.#next < this.sent; this.#next++) this.#row.hurt('lost', `${this.#next} never came back`)
  }
}

/** Counts what comes once, when the connection is new. */
function greeting(row) {
  let greetings = 0
  return () => {
    if (++greetings > 1) row.hurt('greetingsRepeated', `greeting ${greetings}`)
  }
}

/** Kinds of clients: each is started, works until `signal` aborts, and resolves when what it waited for has come. */
export const KINDS = {
  async websocket(port, row, signal) {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`)
    const numbers = new Numbers(row)
    const greeted = greeting(row)
    socket.on('message', (data) => {
      const text = String(data)
      if (text === 'welcome') greeted()
      else numbers.take(Number.parseInt(text, 10))
    })
    socket.on('error', (error) => row.hurt('failed', error.message))
    socket.on('close', (code) => signal.aborted || row.hurt('closed', `code ${code}`))
    await new Promise((resolve) => socket.once('open', resolve))
    for (; !signal.aborted && socket.readyState === WebSocket.OPEN; await delay(50 + Math.random() * 100))
      socket.send(`${numbers.send()} ${FILLER}`)
    await numbers.settle()
    socket.terminate()
  },

  'socket.io': (port, row, signal) => socketIo(port, row, signal, ['websocket']),
  'socket.io polling': (port, row, signal) => socketIo(port, row, signal, ['polling']),

  async 'event stream'(port, row, signal) {
    const user = `user-${row.clients}`
    const numbers = new Numbers(row)
    const greeted = greeting(row)
    const pool = new Pool(`http://127.0.0.1:${port}`, { connections: 1 })
    const stream = request({ port, host: '127.0.0.1', path: `/events?user=${user}`, agent: false })
    stream.on('error', (error) => signal.aborted || row.hurt('failed', error.message))
    stream.end()
    const response = await new Promise((resolve) => stream.once('response', resolve))
    let text = ''
    response.setEncoding('utf8').on('data', (piece) => {
      const events = (text + piece).split('\n\n')
      text = events.pop()
      for (const event of events) {
        if (event.startsWith('event: welcome')) greeted()
        else numbers.take(Number(/^data: (\d+)$/m.exec(event)?.[1]))
      }
    })
    response.on('close', () => signal.aborted || row.hurt('closed', 'the response ended'))
    response.on('error', () => {})
    for (; !signal.aborted; await delay(100 + Math.random() * 200))
      await attempt(row, async () =>
        (await pool.request({ method: 'POST', path: `/say?user=${user}&number=${numbers.send()}` })).body.dump(),
      )
    await numbers.settle()
    stream.destroy()
    await pool.close()
  },

  'keep-alive': (port, row, signal) =>
    agent(port, row, signal, async (pool) => {
      const { body, statusCode } = await pool.request({ method: 'GET', path: '/' })
      if (statusCode !== 200 || !(Number(await body.text()) > 0)) throw new Error(`status ${statusCode}`)
    }),

  upload: (port, row, signal) =>
    agent(port, row, signal, async (pool) => {
      const { body } = await pool.request({
        method: 'POST',
        path: '/upload',
        body: UPLOAD,
        headers: { 'content-type': 'application/x-bytes' },
      })
      if ((await body.json()).length !== UPLOAD.length) throw new Error('half an upload')
    }),

  download: (port, row, signal) =>
    agent(port, row, signal, async (pool) => {
      const { body } = await pool.request({ method: 'GET', path: '/download' })
      if ((await body.arrayBuffer()).byteLength !== 300_000) throw new Error('half a download')
    }),
}

async function socketIo(port, row, signal, transports) {
  const socket = io(`http://127.0.0.1:${port}`, { transports, forceNew: true })
  const numbers = new Numbers(row)
  socket.on('welcome', greeting(row))
  socket.on('said', (text) => numbers.take(Number.parseInt(text, 10)))
  socket.on('connect_error', (error) => row.hurt('failed', error.message))
  socket.on('disconnect', (reason) => signal.aborted || row.hurt('closed', reason))
  await new Promise((resolve) => socket.once('connect', resolve))
  for (; !signal.aborted; await delay(50 + Math.random() * 100)) socket.emit('say', `${numbers.send()} ${FILLER}`)
  await numbers.settle()
  socket.disconnect()
}

/** One keep-alive connection: a second one means that the first was closed. */
async function agent(port, row, signal, act) {
  const pool = new Pool(`http://127.0.0.1:${port}`, { connections: 1 })
  let connections = 0
  pool.on('connect', () => ++connections > 1 && row.hurt('closed', 'it had to connect again'))
  for (; !signal.aborted; await delay(Math.random() * 100))
    await attempt(row, async () => {
      row.sent++
      await act(pool)
      row.answered++
    })
  await pool.close()
}

async function attempt(row, act) {
  try {
    await act()
  } catch (error) {
    row.hurt('failed', error.code ?? error.message)
  }
}

const FILLER = 'a message that is long enough to be worth compressing, '.repeat(8)
const UPLOAD = Buffer.alloc(200_000, 'a')
