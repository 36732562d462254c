import type { Socket } from 'node:net'
import { httpMessageOf, type Response } from '../native/net-internals.js'
import type { Upload } from './http-heads.js'
import type { LateSink, Left } from './protocol.js'
import { swallowHead } from './replay.js'

/**
 * A request that is half received and not answered with a single byte can begin again: all that has come of it is read once more in the successor, whose
 * handler answers. What the predecessor's handler has done for it until then it has done in vain, and what it still answers reaches nobody; so it has to be
 * asked for, by `replay` or `TSUNAGI_REPLAY`. Its one rule: one process answers, and what the other one says is never seen.
 */
export function isUnanswered(socket: Socket, { request, written }: Upload): boolean {
  const response = httpMessageOf(socket)
  if (response === null || response.req !== request || request.complete || request.destroyed) return false
  if (response.headersSent || response.finished || response.outputData.length > 0) return false
  // Early hints, or what somebody has written past the response.
  return socket.bytesWritten - written === (hasContinued(response) ? CONTINUE.length : 0)
}

export const hasContinued = (response: Response): boolean => response._sent100

/** What the handler still writes is kept until it is certain that the successor answers. */
export function leaveUnanswered(socket: Socket): Left {
  let kept: Parameters<LateSink['late']>[] | undefined = []
  return {
    socketSink: {
      late(...act) {
        kept?.push(act)
      },
    },
    takeBack() {
      for (const [kind, data] of kept ?? []) {
        if (kind === 'write') socket.write(data)
        else if (kind === 'end') socket.end(data)
        else socket.destroy()
      }
      kept = undefined
    },
    letGo() {
      kept = undefined
    },
  }
}

/** The client has been told to go on: it is not told again. Any other answer is meant for it. */
export function swallowContinue(socket: Socket): void {
  swallowHead(socket, (head) => {
    if (!head.startsWith('HTTP/1.1 100 ') && head !== '') socket.write(`${head}\r\n\r\n`, 'latin1')
  })
}

/** @note lib/_http_server.js writeContinue() */
const CONTINUE = 'HTTP/1.1 100 Continue\r\n\r\n'
