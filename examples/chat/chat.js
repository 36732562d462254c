import { carry, createServer, isResumed } from 'tsunagi'

/** A chat for plain TCP: the first line is the nickname, each later one goes to the others in the same room, of which some may be elsewhere. */
export function createChat(rooms) {
  const server = createServer(serverOnConnection)
  /** Who is here: a session for each socket. Sockets in carried state are still the sockets in the next process, sessions the same objects. */
  const people = carry(server, 'people', () => new Map())
  rooms.add({ people: () => people.values(), tell })
  return server

  function serverOnConnection(socket) {
    // `line` is what has come of a line so far: a handover may fall into the middle of one.
    const session = carry(socket, 'session', () => ({ nick: '', room: 'lobby', line: '' }))
    if (!isResumed(socket)) socket.write('Welcome. Your nickname?\n')
    socket.setEncoding('utf8')
    socket.on('data', (text) => {
      const lines = `${session.line}${text}`.split('\n')
      session.line = lines.pop().slice(0, MAX_LINE)
      for (const line of lines) socketOnLine(socket, session, clean(line))
    })
    socket.on('error', () => {}) // 'close' follows
    socket.on('close', () => {
      if (people.delete(socket)) rooms.tell(session.room, { text: `${session.nick} has left` })
    })
  }

  function socketOnLine(socket, session, line) {
    if (session.nick === '') return introduce(socket, session, line.trim().slice(0, MAX_NAME))
    const [command, room] = line.trim().split(/\s+/)
    if (command === '/join') return join(socket, session, room?.slice(0, MAX_NAME))
    if (line !== '') rooms.tell(session.room, { nick: session.nick, text: line }, session)
  }

  function introduce(socket, session, nick) {
    if (nick === '') return socket.write('Please type a nickname.\n')
    if (rooms.isTaken(nick)) {
      return socket.write(`Somebody here is called ${nick} already. Another nickname?\n`)
    }
    session.nick = nick
    people.set(socket, session)
    enter(socket, session)
  }

  function join(socket, session, room) {
    if (room === undefined) return socket.write('Which room? For example: /join garden\n')
    if (room === session.room) return socket.write(`You are in ${room} already.\n`)
    rooms.tell(session.room, { text: `${session.nick} has gone to ${room}` }, session)
    session.room = room
    enter(socket, session)
  }

  function enter(socket, session) {
    const { nick, room } = session
    const others = rooms.people(room).filter((other) => other !== nick)
    socket.write(
      `* ${nick}, you are in ${room}, ${others.length ? `with ${others.join(', ')}` : 'alone so far'}. /join <room> changes it.\n`,
    )
    rooms.tell(room, { text: `${nick} is here` }, session)
  }

  function tell(room, { nick, text }, except) {
    for (const [socket, session] of people) {
      if (session.room !== room || session === except) continue
      if (socket.writableLength < MAX_UNREAD) socket.write(nick ? `${nick}: ${text}\n` : `* ${text}\n`)
      else socket.destroy() // has not read for so long that it would fill our memory
    }
  }
}

/** Without the \r of telnet and Windows, and without what would steer the others' terminals. */
export function clean(line) {
  return line.slice(0, MAX_LINE).replaceAll(/[^\P{Cc}\t]/gu, '')
}

/** Characters; what is longer is cut. */
const MAX_LINE = 1000
export const MAX_NAME = 20
/** Bytes. */
const MAX_UNREAD = 1_000_000
