import { writeSync } from 'node:fs'
import type { ServerHttp2Session } from 'node:http2'
import type { Socket } from 'node:net'
import type { Native } from '../native.js'
import { socketsUnder } from './http2.js'
import { isPlainTcp } from './looking.js'
import { internals, symbolValue } from './private-fields.js'

/**
 * Tells the client that the session is about to shut down, in a way that refuses no stream. Resolves when the client has heard it, so that every stream that
 * it has opened is here; at once where it could not be told.
 * @note nghttp2_submit_shutdown_notice; session.goaway() would do for the frame, but nghttp2 ignores new streams from any other GOAWAY on. Node 22 and later
 * end a session that sends a GOAWAY of which they do not know (src/node_http2.cc, "terminated internally"). So they are asked for one first: with the id of a stream that
 * this side could have opened, which nghttp2 declines to send.
 */
export async function announceShutdown(session: ServerHttp2Session, native: Native | undefined): Promise<void> {
  if (session.destroyed || session.closed || !say(session, native)) return
  await answerOf(session) // PING goes out before everything else: this one's answer says that the notice is on its way
  await answerOf(session)
}

function say(session: ServerHttp2Session, native: Native | undefined): boolean {
  const handle = symbolValue(session, session, 'kHandle') as object | undefined
  if (handle && native) {
    const { nextStreamID = -1, lastProcStreamID = -1, effectiveLocalWindowSize = -1, remoteWindowSize = -1 } = session.state
    session.goaway(NO_ERROR, A_STREAM_OF_THIS_SIDE)
    if (native.shutdownNotice(handle, Float64Array.of(nextStreamID, lastProcStreamID, effectiveLocalWindowSize, remoteWindowSize)))
      return true
  }
  const [socket] = socketsUnder(session)
  return socket !== undefined && writePast(socket, OPEN_NO_MORE_STREAMS)
}

/** Resolves when the client has answered a PING, or will not. */
export function answerOf(session: ServerHttp2Session): Promise<void> {
  return new Promise((resolve) => {
    if (session.destroyed || !session.ping(() => resolve())) resolve()
    session.once('close', resolve)
  })
}

const NO_ERROR = 0
const A_STREAM_OF_THIS_SIDE = 2
/** @note RFC 9113 section 6.8: GOAWAY with the highest stream identifier, 2^31 - 1, and NO_ERROR. */
const OPEN_NO_MORE_STREAMS = Buffer.from([0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0])

/**
 * Writes a few bytes to the kernel behind the back of whatever uses the handle, between two turns: what it has written before is whole there then.
 * False where that is not certain, or where there is TLS in between. Through the handle it would not do: the session takes the end of any write for its own,
 * and ends the process if it has none.
 */
function writePast(socket: Socket, bytes: Uint8Array): boolean {
  const { _handle } = internals(socket)
  if (_handle === null || !isPlainTcp(socket) || _handle.writeQueueSize > 0) return false
  try {
    return writeSync(_handle.fd, bytes) === bytes.length
  } catch {
    return false // the kernel has no room, or the client has gone
  }
}
