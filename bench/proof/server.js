/**
 * The server of the proof; each reload starts it once more. A connection says in its first line what it is: { kind, id }. What a session knows
 * of its stream (position, running hash) is carried, so a byte lost or repeated by a handover cannot be hidden by starting to count anew.
 */
import { subscribe } from 'node:diagnostics_channel'
import { readdirSync } from 'node:fs'
import { createServer as createPlainServer } from 'node:net'
import { attach, carry, createServer, owned, ready } from 'tsunagi'
import { bytesAt, HASH_SEED, MAX_CHUNK, runningHash } from './pattern.js'
import { sabotaged } from './sabotage.js'

const traffic = createServer({ allowHalfOpen: true }, trafficOnConnection)
const sessions = carry(traffic, 'sessions', () => new Map())
const side = attach(createPlainServer(sideOnConnection))
const sockets = new Set()
/** Firehoses run until the proof says stop. */
const state = carry(traffic, 'state', () => ({ stopped: false }))

function trafficOnConnection(socket) {
  const session = carry(socket, 'session', () => ({
    kind: '',
    id: 0,
    head: '',
    frame: Buffer.alloc(0),
    received: 0,
    receivedHash: HASH_SEED,
    sent: 0,
    sentHash: HASH_SEED,
    outcome: 'open',
  }))
  sockets.add(socket)
  socket.on('data', (bytes) => (session.kind ? kinds[session.kind].data(socket, session, bytes) : readHead(socket, session, bytes)))
  socket.on('end', () => kinds[session.kind]?.end(socket, session))
  socket.on('error', (error) => {
    session.outcome = error.code
  })
  socket.on('close', () => {
    if (session.outcome === 'open') session.outcome = 'closed'
    sockets.delete(socket)
  })
  if (session.kind) kinds[session.kind].start(socket, session)
}

function readHead(socket, session, bytes) {
  const text = bytes.toString('latin1')
  const end = text.indexOf('\n')
  session.head += end < 0 ? text : text.slice(0, end)
  if (end < 0) return
  Object.assign(session, JSON.parse(session.head))
  sessions.set(session.id, session)
  if (session.kind === 'upload')
    socket.end('.') // this side is over, the client goes on sending
  else write(socket, session, Buffer.from('.'))
  kinds[session.kind].start(socket, session)
  if (end + 1 < bytes.length) kinds[session.kind].data(socket, session, bytes.subarray(end + 1))
}

const nothing = () => {}

const kinds = {
  /** Frames of 32 bytes come back with their number in front. */
  pingpong: {
    start: nothing,
    data(socket, session, bytes) {
      note(session, bytes)
      let rest = Buffer.concat([session.frame, bytes])
      for (; rest.length >= FRAME; rest = rest.subarray(FRAME)) {
        const number = Buffer.alloc(4)
        number.writeUInt32BE(session.sent++)
        write(socket, session, Buffer.concat([number, rest.subarray(0, FRAME)]))
      }
      session.frame = Buffer.from(rest)
    },
    end: (socket) => socket.end(),
  },
  /** Everything comes back. Now and then the server rests: what comes meanwhile lies in Node's buffer, unread. */
  bulk: {
    start: (socket) => socket.on('drain', () => socket.resume()),
    data(socket, session, bytes) {
      note(session, bytes)
      if (!write(socket, session, bytes)) return socket.pause()
      if (Math.random() > REST_ODDS) return
      socket.pause()
      setTimeout(() => socket.resume(), Math.random() * REST)
    },
    end: (socket) => socket.end(),
  },
  /** As much as the client reads, from a position that goes along. Its client may have ended its own side long ago. */
  firehose: {
    start(socket, session) {
      const pump = () => {
        while (!state.stopped && socket.writable && !socket.writableNeedDrain) {
          const bytes = bytesAt(session.id, session.sent, MAX_CHUNK / 4)
          session.sent += bytes.length
          session.sentHash = runningHash(session.sentHash, bytes)
          write(socket, session, bytes)
        }
        if (state.stopped && !socket.writableEnded) socket.end()
      }
      socket.on('drain', pump)
      socket.on('stop', pump)
      pump()
    },
    data: nothing,
    end: nothing,
  },
  /** As much as a buffer holds, at once; its client does not read for the time being. */
  greedy: {
    start(socket, session) {
      if (session.sent === 0) {
        const bytes = Buffer.concat(
          Array.from({ length: session.bytes / MAX_CHUNK }, (_, at) => bytesAt(session.id, at * MAX_CHUNK, MAX_CHUNK)),
        )
        session.sent = bytes.length
        session.sentHash = runningHash(session.sentHash, bytes)
        write(socket, session, bytes)
      }
      if (state.stopped) socket.end()
      else socket.once('stop', () => socket.end())
    },
    data: nothing,
    end: nothing,
  },
  /** Comes back only at the end: until then it lies unread in Node's buffers. */
  held: {
    start(socket) {
      socket.on('drain', () => socket.resume())
      if (state.stopped) return
      socket.pause()
      socket.once('stop', () => socket.resume())
    },
    data(socket, session, bytes) {
      note(session, bytes)
      if (!write(socket, session, bytes)) socket.pause()
    },
    end: (socket) => socket.end(),
  },
  /** This side has ended; what the client sends is counted. */
  upload: { start: nothing, data: (_, session, bytes) => note(session, bytes), end: nothing },
}

const FRAME = 32
/** For each piece that comes; milliseconds at most. */
const REST_ODDS = 0.1
const REST = 500

function note(session, bytes) {
  session.received += bytes.length
  session.receivedHash = runningHash(session.receivedHash, bytes)
}

function write(socket, session, bytes) {
  return socket.write(sabotaged(socket, session, bytes))
}

/** Newcomers say hello here, and the proof asks its questions. */
function sideOnConnection(socket) {
  socket.on('error', nothing)
  socket.on('data', (bytes) => {
    const answer = questions[bytes.toString().trim()]?.() ?? null
    if (answer !== undefined) socket.write(`${JSON.stringify(answer)}\n`)
  })
}

const questions = {
  hello: () => process.pid,
  stop() {
    state.stopped = true
    for (const socket of sockets) socket.emit('stop')
    return sockets.size
  },
  sessions: () => [...sessions.values()].map(({ frame, head, ...session }) => session),
  fds: () => readdirSync('/proc/self/fd').length,
  open: () => sockets.size,
  quit: () => process.exit(0),
}

function listen(server, port) {
  return new Promise((resolve, reject) =>
    server.on('error', serverOnError).once('error', reject).listen(Number(port), '127.0.0.1', resolve),
  )
}

/** A handover that was refused or given up for good. */
function serverOnError(error) {
  console.error(error)
  process.exit(1)
}

function say(message) {
  process.stdout.write(`${JSON.stringify(message)}\n`)
}

// Last, since the handlers of what is taken over run before `owned` resolves.
subscribe('tsunagi.handover', (report) => say({ report }))
await Promise.all([listen(traffic, process.env.TRAFFIC_PORT), listen(side, process.env.SIDE_PORT)])
ready()
await owned()
say({ serving: process.pid })
