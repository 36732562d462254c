import type { Server as HttpServer, IncomingMessage, ServerResponse } from 'node:http'
import { responsesOf, serverOf } from '../native/net-internals.js'
import { staying } from './staying.js'

/** What is under TLS is in OpenSSL's hands. A plain TLS connection is served until its peer ends it. */
export const tls = staying({
  name: 'tls',
  reason: 'TLS connections drain',
  knows: (_socket, attached) => attached?.kind === 'tls',
  drain() {},
})

/**
 * HTTP/1.1 under TLS. A response says `Connection: close` from the begin of draining on; an idle connection gets that with its next one, or ends by its
 * keep-alive timeout. Ending it now would meet a request that is on its way. Handshakes under way come to their end, and to one request.
 */
export const https = staying({
  name: 'https',
  reason: 'TLS connections drain',
  knows: (_socket, attached) => attached?.kind === 'https',
  drain(socket) {
    const server = serverOf(socket) as HttpServer | null
    if (server === null || server.listeners('request').includes(serverOnRequest)) return
    server.prependListener('request', serverOnRequest)
    for (const response of responsesOf(server)) response.shouldKeepAlive = false
  },
})

function serverOnRequest(this: HttpServer, _request: IncomingMessage, response: ServerResponse): void {
  response.shouldKeepAlive = false
}
