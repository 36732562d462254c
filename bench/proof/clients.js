/**
 * The clients of the proof, in a process of their own so that checking streams does not slow the ping-pong: forked by proof.js, told what to do
 * over IPC. None of them ever reconnects. They report what they saw; whether that is right is judged in judge.js.
 */
import { connect } from 'node:net'
import { bytesAt, HASH_SEED, MAX_CHUNK, runningHash, Verifier } from './pattern.js'

const clients = []
let finishing = false
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
  async finish({ timeout }) {
    finishing = true
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
  #slowest = 0
  #pingedAt
  #pingedIn
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
    socket.write(`${JSON.stringify({ kind: this.#spec.kind, id: this.#spec.id })}\n`)
    socket.once('error', reject)
    // Its first byte says that the server has read the head.
    socket.once('data', (first) => {
      if (this.#spec.halfClosed) socket.end()
      socket.on('data', (bytes) => this.#socketOnData(bytes))
      if (first.length > 1) this.#socketOnData(first.subarray(1))
      if (this.#spec.kind !== 'firehose') this.#send()
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
    if (this.#spec.kind !== 'upload' && !finishing) this.unexpected.push('end')
    if (this.#spec.kind !== 'upload' || finishing) this.#socket.end()
  }

  #socketOnData(bytes) {
    if (this.#spec.kind === 'pingpong') return this.#socketOnPong(bytes)
    const before = this.#verifier.received
    this.#verifier.take(bytes)
    if (crossed(before, this.#verifier.received, PACE)) this.#stall()
    if (this.#spec.kind === 'bulk') this.#send()
  }

  /** Reads nothing for a while, so that buffers fill on every side. */
  #stall() {
    this.#stalls++
    this.#socket.pause()
    setTimeout(() => this.#socket.resume(), finishing ? 0 : Math.random() * 2 * STALL)
  }

  #send() {
    if (this.#socket.writableEnded || this.#socket.destroyed) return
    if (this.#spec.kind === 'pingpong') return this.#ping()
    if (finishing) {
      if (this.#spec.kind === 'upload' || this.sent <= this.#verifier.received) this.#socket.end()
      return
    }
    if (this.#spec.kind === 'bulk' && this.sent - this.#verifier.received > IN_FLIGHT) return
    const before = this.sent
    this.#write(1 + Math.floor(Math.random() * MAX_CHUNK))
    const pause = crossed(before, this.sent, PACE) ? Math.random() * 2 * STALL : 0
    if (this.#socket.writableNeedDrain) this.#socket.once('drain', () => this.#send())
    else if (pause > 0 || this.#spec.kind === 'upload') setTimeout(() => this.#send(), pause)
    else setImmediate(() => this.#send())
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
    setTimeout(() => this.#send(), PING_EVERY)
  }

  #measured() {
    const took = performance.now() - this.#pingedAt
    if (this.#pingedIn !== undefined && this.#pingedIn === label) this.#slowest = Math.max(this.#slowest, took)
    // The window it was sent in has ended meanwhile, without it.
    else if (this.#pingedIn !== undefined) worst[this.#pingedIn].push(took)
  }

  endWindow(ended) {
    if (ended !== undefined && this.#slowest > 0) worst[ended].push(this.#slowest)
    this.#slowest = 0
  }

  finish() {
    if (this.#spec.kind === 'bulk') this.#send()
  }

  report() {
    const { received, position, hash, lost, repeated, wrong } = this.#verifier
    const { sent, sentHash, outcome, unexpected } = this
    return { ...this.#spec, outcome, unexpected, sent, sentHash, received, position, receivedHash: hash, lost, repeated, wrong, stalls: this.#stalls }
  }
}

function crossed(before, after, step) {
  return Math.floor(before / step) !== Math.floor(after / step)
}

function after(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms).unref())
}

const FRAME = 32
/** Milliseconds between a pong and the next ping. */
const PING_EVERY = 10
/** After so many bytes a stream rests, STALL ms on average: 200 clients shall not keep the machine busy for their own sake. */
const PACE = 262_144
const STALL = 500
/** Bytes that an echo client has under way at most. */
const IN_FLIGHT = 262_144
