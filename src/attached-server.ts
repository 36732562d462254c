import type { Server } from 'node:net'
import { addressKey, type ListeningAddress } from './channel/rendezvous.js'
import type { AttachOptions } from './options.js'

/** A server that takes part in handovers. */
export class AttachedServer {
  readonly server: Server
  options: Required<AttachOptions>
  /** Whether somebody attached it: then its connections move without further asking. `register` takes in servers that never heard of it. */
  asked: boolean
  /** What is spoken on its connections. */
  readonly kind: 'raw' | 'http' | 'https' | 'http2' | 'tls'
  /** Name of the address it listens on, '' while it does not. */
  key = ''
  /** Whether the listener is the cluster's primary's, which gives this worker its share of the connections. */
  isShared = false
  /** The socket file of a server on a path, '' for any other. */
  path = ''
  /** Arguments that `listen()` was called with, for the day its inherited listener starts to accept. */
  backlog = 511

  constructor(server: Server, options: Required<AttachOptions>, asked = true) {
    this.server = server
    this.options = options
    this.asked = asked
    this.kind = kindOf(server)
  }

  /** attach() was called for a server that `register` had taken in. */
  ask(options: Required<AttachOptions>): void {
    this.options = options
    this.asked = true
  }

  listensOn(address: ListeningAddress, backlog: number): void {
    this.key = addressKey(address)
    this.path = address.family === 'unix' && address.address.startsWith('/') ? address.address : ''
    this.backlog = backlog || 511
  }
}

/** Told by what they can do: importing http, tls and http2 for instanceof would load them into every process. */
function kindOf(server: Server): AttachedServer['kind'] {
  if (/^Http2(Secure)?Server$/.test(server.constructor.name)) return 'http2'
  const isSecure = 'addContext' in server
  if ('closeIdleConnections' in server) return isSecure ? 'https' : 'http'
  if (isSecure) return 'tls'
  return 'raw'
}
