import type { ServerHttp2Session } from 'node:http2'
import { openStreamsOf, serverOf, socketsUnder, writePast } from '../native/net-internals.js'
import { sessionOn } from './http2-sessions.js'
import { staying } from './staying.js'

/**
 * HTTP/2, with and without TLS. The state of a session is nghttp2's, so it drains: its streams end in this process. Its one rule: no request is lost. So
 * nothing is said while requests follow each other closely (curl before 8 fails those that it has not sent yet when it hears of the end in between). Then
 * the client is asked to open no more streams, in a way that refuses none, and leaves by itself. Under TLS there is no way to say that, and the session
 * closes: a stream that crosses its GOAWAY is refused before it was looked at, which clients try again (RFC 9113 section 8.7; Node's own leaves it to its user).
 */
export const http2 = staying({
  name: 'http2',
  reason: 'HTTP/2 connections drain',
  knows: (_socket, attached) => attached?.kind === 'http2',
  drain(socket) {
    const server = serverOf(socket)
    if (server && !server.listeners('session').includes(serverOnSession)) server.on('session', serverOnSession)
    const session = sessionOn(socket)
    if (session) shutDown(session)
  },
})

/** A handshake that was under way when draining began. */
function serverOnSession(session: ServerHttp2Session): void {
  setImmediate(shutDown, session)
}

function shutDown(session: ServerHttp2Session): void {
  let [rounds, quiet] = [0, 0]
  const sessionOnStream = () => {
    quiet = 0
  }
  session.on('stream', sessionOnStream)
  const timer = setInterval(() => {
    quiet = openStreamsOf(session) === 0 ? quiet + 1 : 0
    if (quiet < QUIET_ROUNDS && ++rounds < MAX_ROUNDS && !session.destroyed) return
    clearInterval(timer)
    session.off('stream', sessionOnStream)
    if (!session.destroyed) askToLeave(session)
  }, ROUND_MS).unref()
}

function askToLeave(session: ServerHttp2Session): void {
  const [socket] = socketsUnder(session)
  // Past nghttp2, which would ignore new streams once it has sent any GOAWAY itself: the client may have sent some that are not here yet.
  if (socket === undefined || !writePast(socket, OPEN_NO_MORE_STREAMS)) return session.close()
  // Whoever has not left by then does not open streams any more: what is open ends, and then the session.
  setTimeout(() => session.destroyed || session.close(), LEAVE_MS).unref()
}

/** @note RFC 9113 section 6.8: GOAWAY with the highest stream identifier, 2^31 - 1, and NO_ERROR. */
const OPEN_NO_MORE_STREAMS = Buffer.from([0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0])
/** Quiet is 100 ms without a stream. It is waited for no longer than 3 s. */
const ROUND_MS = 25
const QUIET_ROUNDS = 4
const MAX_ROUNDS = 120
const LEAVE_MS = 5_000
