/**
 * The clients of the proof, in a process of their own so that checking streams does not slow the ping-pong: forked by proof.js, told what to do
 * over IPC. None of them ever reconnects. They report what they saw; whether that is right is judged in judge.js.
 */
import { connect } from 'node:net'
import { bytesAt, HASH_SEED, MAX_CHUNK, runningHash, Verifier } from './pattern.js'

const clients = []
let finishing = false
/** The server is about to be told to stop: from now on an end is meant. */
let isEndMeant = false
let stalling = true
/** What round trips are being measured for now: 'reload', 'steady' or nothing. */
let label
const worst = { reload: [], steady: [] }

const orders = {
  async start({ port, specs }) {
    clients.push(...specs.map((spec) => new Client(spec, port)))
    await Promise.all(clients.map((client) => client.opened))
  },
  measure({ label: next }) {
    for (const client of clients) client.endWindow(label)
    label = next
  },
  open: () => clients.filter((client) => client.outcome === undefined).length,
  unexpected: () => clients.reduce((sum, client) => sum + client.unexpected.length, 0),
  /** Resolves once every client has seen something that was written after the server was asked for `marks`: what it had sent by then. */
  async pass({ marks, timeout }) {
    stalling = false
    await Promise.race([Promise.all(clients.map((client) => client.pass(marks))), after(timeout)])
  },
  expectEnd() {
    isEndMeant = true
  },
  async finish({ timeout }) {
    finishing = true
    stalling = false
    for (const client of clients) client.finish()
    await Promise.race([Promise.all(clients.map((client) => client.closed)), after(timeout)])
    for (const client of clients) client.outcome ??= 'unfinished'
    return { worst, clients: clients.map((client) => client.report()) }
  },
}

process.on('message', async ({ order, ...details }) => process.send({ done: order, result: await orders[order](details) }))
process.on('disconnect', () => process.exit(1))

class Client {
  outcome
  /** What came from the other side that nobody asked for: 'end', or an error's code. */
  unexpected = []
  sent = 0
  sentHash = HASH_SEED
  #spec
  #socket
  #verifier
  /** Whether the next write is due by itself. */
  #resting = false
  #slowest = 0
  #pingedAt
  #pingedIn
  #overdue
  #frame = Buffer.alloc(0)
  #pongs = 0
  #stalls = 0

  constructor(spec, port) {
    this.#spec = spec
    this.#verifier = new Verifier(spec.id)
    this.#socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
    this.opened = new Promise((resolve, reject) => this.#open(resolve, reject))
    this.closed = new Promise((resolve) => this.#socket.once('close', resolve))
  }

  #open(resolve, reject) {
    const socket = this.#socket
    socket.write(`${JSON.stringify(this.#spec)}\n`)
    socket.once('error', reject)
    // Its first byte says that the server has read the head.
    socket.once('data', (first) => {
      if (this.#spec.halfClosed) socket.end()
      socket.on('data', (bytes) => this.#socketOnData(bytes))
      if (first.length > 1) this.#socketOnData(first.subarray(1))
      if (this.#spec.kind === 'greedy') socket.pause()
      if (this.#spec.kind === 'held') this.#sendAll()
      else if (['pingpong', 'bulk', 'upload'].includes(this.#spec.kind)) this.#send()
      resolve()
    })
    socket.on('end', () => this.#socketOnEnd())
    socket.on('error', (error) => this.unexpected.push(error.code))
    socket.on('close', () => {
      this.outcome = this.unexpected.length === 0 ? 'finished' : this.unexpected.join(', ')
    })
  }

  #socketOnEnd() {
    // An upload's server has ended its side at once, as it should; for the others it is the end only when the proof is.
    if (this.#spec.kind !== 'upload' && !isEndMeant) this.unexpected.push('end')
    if (this.#spec.kind !== 'upload' || finishing) this.#socket.end()
  }

  #socketOnData(bytes) {
    if (this.#spec.kind === 'pingpong') return this.#socketOnPong(bytes)
    const before = this.#verifier.received
    this.#verifier.take(bytes)
    if (this.#spec.kind !== 'greedy' && crossed(before, this.#verifier.received, PACE)) this.#stall()
    if (this.#spec.kind === 'bulk') this.#send()
    if (this.#spec.kind === 'held' && finishing && this.sent === this.#verifier.received) this.#socket.end()
  }

  /** Reads nothing for a while, so that buffers fill on every side. */
  #stall() {
    if (!stalling) return
    this.#stalls++
    this.#socket.pause()
    setTimeout(() => this.#socket.resume(), Math.random() * 2 * STALL)
  }

  #send() {
    if (this.#resting || this.#socket.writableEnded || this.#socket.destroyed) return
    if (this.#spec.kind === 'pingpong') return this.#ping()
    if (finishing) {
      if (this.#spec.kind === 'upload' || this.sent <= this.#verifier.received) this.#socket.end()
      return
    }
    if (this.#spec.kind === 'bulk' && this.sent - this.#verifier.received > IN_FLIGHT) return
    const before = this.sent
    this.#write(1 + Math.floor(Math.random() * MAX_CHUNK))
    this.#resting = true
    const goOn = () => {
      this.#resting = false
      this.#send()
    }
    if (this.#socket.writableNeedDrain) this.#socket.once('drain', goOn)
    else setTimeout(goOn, crossed(before, this.sent, PACE) && stalling ? Math.random() * 2 * STALL : 0)
  }

  #sendAll() {
    while (this.sent < this.#spec.bytes) this.#write(Math.min(MAX_CHUNK, this.#spec.bytes - this.sent))
  }

  #write(length) {
    const bytes = bytesAt(this.#spec.id, this.sent, length)
    this.sent += length
    this.sentHash = runningHash(this.sentHash, bytes)
    this.#socket.write(bytes)
  }

  #ping() {
    if (finishing) return this.#socket.end()
    this.#pingedAt = performance.now()
    this.#pingedIn = label
    this.#write(FRAME)
  }

  #socketOnPong(bytes) {
    this.#frame = Buffer.concat([this.#frame, bytes])
    if (this.#frame.length < FRAME + 4) return
    const frame = this.#frame
    this.#frame = Buffer.alloc(0)
    if (frame.readUInt32BE() !== this.#pongs++ || frame.length > FRAME + 4) this.#verifier.repeated++
    this.#verifier.take(frame.subarray(4, FRAME + 4))
    this.#measured()
    setTimeout(() => this.#send(), this.#spec.pingEvery)
  }

  #measured() {
    const took = performance.now() - this.#pingedAt
    this.#pingedAt = undefined
    if (this.#overdue) {
      worst[this.#pingedIn].push(Math.max(took, this.#overdue.slowest))
      this.#overdue = undefined
    } else if (this.#pingedIn === label) this.#slowest = Math.max(this.#slowest, took)
  }

  /** A ping that is under way at the end of the window it was sent in counts for that window, once it is back. */
  endWindow(ended) {
    if (ended !== undefined && this.#pingedAt !== undefined && this.#pingedIn === ended) this.#overdue = { slowest: this.#slowest }
    else if (ended !== undefined && this.#slowest > 0) worst[ended].push(this.#slowest)
    this.#slowest = 0
  }

  pass(marks) {
    if (['upload', 'held', 'greedy'].includes(this.#spec.kind)) return
    const mark = this.#spec.kind === 'firehose' ? marks[this.#spec.id] : this.#verifier.position
    return new Promise((resolve) => {
      const look = setInterval(() => {
        if (this.#verifier.position <= mark && this.unexpected.length === 0) return
        clearInterval(look)
        resolve()
      }, 5)
    })
  }

  finish() {
    if (this.#spec.kind === 'bulk') this.#send()
    if (this.#spec.kind === 'greedy') this.#socket.resume()
    if (this.#spec.kind === 'held' && this.sent === this.#verifier.received) this.#socket.end()
  }

  report() {
    const { received, position, hash, lost, repeated, wrong } = this.#verifier
    const { sent, sentHash, outcome, unexpected } = this
    const seen = { outcome, unexpected, stalls: this.#stalls, sent, sentHash }
    return { ...this.#spec, ...seen, received, position, receivedHash: hash, lost, repeated, wrong }
  }
}

function crossed(before, after, step) {
  return Math.floor(before / step) !== Math.floor(after / step)
}

function after(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms).unref())
}

const FRAME = 32
/** After so many bytes a stream rests, STALL ms on average: 200 clients shall not keep the machine busy for their own sake. */
const PACE = 262_144
const STALL = 500
/** Bytes that an echo client has under way at most. */
const IN_FLIGHT = 262_144
