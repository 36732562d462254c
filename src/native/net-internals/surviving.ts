/* What crash survival has to see of a socket while it is used. Installed only where a server asks for it. */
import net, { type Server, type Socket } from 'node:net'
import { internals } from './private-fields.js'

/** What is told of one socket, before it happens. Each is on the path of a read or a write: it must do next to nothing. */
export interface SocketWitness {
  /** Bytes, or the end, have come from the kernel for the stream. Not for a connection that an HTTP parser reads. */
  reads(): void
  writes(): void
  /** Its handle is about to be closed; `byReset`: by resetAndDestroy(). */
  closes(byReset: boolean): void
}

/** From now on the witness is told; `undefined`: nobody. */
export function setWitness(socket: Socket, witness: SocketWitness | undefined): void {
  ;(socket as Witnessed)[WITNESS] = witness
}

/**
 * Node's own methods tell the witness of a socket that has one; `serverCloses` is told of every server. Returns how to undo it.
 * @note lib/net.js: _write and _writev are _writeGeneric, onStreamRead pushes, destroy() ends in _destroy, http.Server#close calls net.Server#close.
 */
export function installWitnesses(serverCloses: (server: Server) => void): () => void {
  const prototype = net.Socket.prototype as unknown as Methods
  const { _writeGeneric, _destroy } = prototype
  const { push } = Object.getPrototypeOf(prototype) as Methods
  const { close } = net.Server.prototype
  const patches = {
    push(this: Witnessed, ...args: unknown[]) {
      this[WITNESS]?.reads()
      return push.apply(this, args)
    },
    _writeGeneric(this: Witnessed, ...args: unknown[]) {
      this[WITNESS]?.writes()
      return _writeGeneric.apply(this, args)
    },
    _destroy(this: Witnessed, ...args: unknown[]) {
      if (internals(this)._handle) this[WITNESS]?.closes(this.resetAndClosing === true)
      return _destroy.apply(this, args)
    },
  }
  Object.assign(prototype, patches)
  const patchedClose = function patchedClose(this: Server, ...args: Parameters<Server['close']>) {
    serverCloses(this)
    return close.apply(this, args)
  } as Server['close']
  net.Server.prototype.close = patchedClose
  return () => {
    if (prototype.push === patches.push) Reflect.deleteProperty(prototype, 'push')
    if (prototype._writeGeneric === patches._writeGeneric) prototype._writeGeneric = _writeGeneric
    if (prototype._destroy === patches._destroy) prototype._destroy = _destroy
    if (net.Server.prototype.close === patchedClose) net.Server.prototype.close = close
  }
}

const WITNESS = Symbol('tsunagi.witness')

type Witnessed = Socket & { [WITNESS]?: SocketWitness | undefined; resetAndClosing?: boolean }
type Method = (this: unknown, ...args: unknown[]) => unknown
interface Methods {
  push: Method
  _writeGeneric: Method
  _destroy: Method
}
