import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { attach, carry, isResumed, reload } from 'tsunagi'
import { WebSocketServer } from 'ws'
import { clean, MAX_NAME } from './chat.js'

/** Read at the start: the files may be those of the next version by the time that somebody asks. */
const page = readFileSync(new URL('page.html', import.meta.url))

/** The chat in a browser: a page, a WebSocket for the talk, an event stream for the time, and uploads. `status` gives what programs ask for. */
export function createWeb(rooms, status) {
  const server = attach(createServer(serverOnRequest))
  const sockets = new WebSocketServer({ server, path: '/talk', maxPayload: 16 * 1024 })
  /** Who is here. It is made anew in each process: the WebSockets tell who they are by what they carry. */
  const people = new Map()
  let generation = 1

  rooms.add({ people: () => people.values(), tell })
  sockets.on('connection', (ws) => {
    const session = carry(ws, 'session', () => ({ nick: '', room: 'lobby' }))
    if (session.nick !== '') people.set(ws, session)
    if (!isResumed(ws)) send(ws, { type: 'welcome', generation, pid: process.pid })
    ws.on('message', (data) => socketOnMessage(ws, session, parse(data)))
    ws.on('error', () => {}) // 'close' follows
    ws.on('close', () => {
      if (people.delete(ws)) leave(session, 'has left')
    })
  })
  return Object.assign(server, { announce })

  /** This process serves. */
  function announce(number) {
    generation = number
    for (const ws of sockets.clients) send(ws, { type: 'served', generation, pid: process.pid })
  }

  // ---- the talk

  function socketOnMessage(ws, session, message) {
    const text = clean(String(message.text ?? '')).trim()
    if (message.type === 'nick' && session.nick === '') introduce(ws, session, text.slice(0, MAX_NAME))
    else if (session.nick === '') send(ws, { type: 'refused', text: 'Please choose a nickname first.' })
    else if (message.type === 'join' && text !== '') join(session, text.slice(0, MAX_NAME))
    else if (message.type === 'say' && text !== '') rooms.tell(session.room, { nick: session.nick, text })
  }

  function introduce(ws, session, nick) {
    if (nick === '' || rooms.isTaken(nick))
      return send(ws, { type: 'refused', text: nick ? `${nick} is here already.` : 'A nickname, please.' })
    session.nick = nick
    people.set(ws, session)
    rooms.tell(session.room, { text: `${nick} is here` })
  }

  function join(session, room) {
    if (room === session.room) return
    const before = session.room
    session.room = room
    leave({ ...session, room: before }, `has gone to ${room}`)
    rooms.tell(room, { text: `${session.nick} is here` })
  }

  function leave({ nick, room }, how) {
    rooms.tell(room, { text: `${nick} ${how}` })
  }

  function tell(room, said, except) {
    const names = rooms.people(room).sort()
    for (const [ws, session] of people) {
      if (session.room === room && session !== except) send(ws, { type: 'told', room, ...said, people: names })
    }
  }

  // ---- everything else

  async function serverOnRequest(request, response) {
    const { method, url, headers } = request
    const path = new URL(url, 'http://chat').pathname
    if (method === 'POST' && path === '/reload') return reloadOnRequest(response)
    if (method === 'PUT' && path === '/upload') return uploadOnRequest(request, response)
    if (path === '/ticker') return tickerOnRequest(request, response)
    if (path !== '/') return response.writeHead(404).end()
    response.setHeader('Cache-Control', 'no-store')
    if (headers.accept?.includes('application/json')) return json(response, await status())
    response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' }).end(page)
  }

  /** The next version answers what comes next; this process only says that it is on its way. */
  function reloadOnRequest(response) {
    reload().catch((error) => console.error(error.message))
    response.writeHead(202).end()
  }

  /** Not faster than so many bytes a second, so that there is something to see. The process that has begun an upload ends it. */
  async function uploadOnRequest(request, response) {
    const hash = createHash('sha256')
    let bytes = 0
    try {
      for await (const chunk of request) {
        hash.update(chunk)
        bytes += chunk.length
        await delay((1000 * chunk.length) / UPLOAD_RATE)
      }
      json(response, { bytes, sha256: hash.digest('hex'), pid: process.pid })
    } catch {
      response.destroy() // whoever sent it has gone
    }
  }

  /** Each second has its number. Whoever comes again says which he has had. */
  function tickerOnRequest(request, response) {
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' })
    let second = Number(request.headers['last-event-id'] ?? 0)
    const timer = setInterval(() => {
      second += 1
      response.write(`id: ${second}\ndata: ${JSON.stringify({ second, at: new Date().toISOString(), generation })}\n\n`)
    }, 1000)
    response.on('close', () => clearInterval(timer))
  }
}

function json(response, value) {
  response.writeHead(200, { 'Content-Type': 'application/json' }).end(`${JSON.stringify(value, null, 2)}\n`)
}

function send(ws, message) {
  if (ws.bufferedAmount < MAX_UNREAD) ws.send(JSON.stringify(message))
  else ws.terminate() // has not read for so long that it would fill our memory
}

function parse(data) {
  try {
    return JSON.parse(data) ?? {}
  } catch {
    return {}
  }
}

/** Bytes a second. */
const UPLOAD_RATE = 2_500_000
/** Bytes. */
const MAX_UNREAD = 1_000_000
