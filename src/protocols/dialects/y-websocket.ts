import type { Resumption } from '../../successor/resumption.js'
import type { RequestHead } from '../request-head.js'
import type { Beginning, Dialect } from '../websocket/dialect.js'
import type { WebSocketInternals } from '../websocket/ws.js'

/**
 * The server of y-websocket 2 keeps its documents in memory, and its greeting asks the client for what this process has not. So here the greeting is
 * what restores: it goes out, each client answers with all that it has, and what is in the document already changes nothing.
 *
 * @note y-websocket 2.1.0, bin/utils.cjs `setupWSConnection`: told by the text of its listener, since it leaves nothing else on a WebSocket.
 */
export class YWebSocketDialect implements Dialect {
  readonly name = 'y-websocket'
  readonly #resumption: Resumption

  constructor(resumption: Resumption) {
    this.#resumption = resumption
  }

  speaks(ws: WebSocketInternals): boolean {
    return ws.listeners('message').some((listener) => String(listener).includes('messageListener(conn, doc'))
  }

  obstacleOf(): undefined {}

  snapshot(): null {
    return null
  }

  leave(): { takeBack(): void; letGo(): void } {
    return { takeBack() {}, letGo() {} }
  }

  refuse(): undefined {}

  begin(_state: unknown, request: RequestHead): Beginning {
    return {
      request,
      received() {},
      meet: ({ _socket }) => {
        if (_socket) this.#resumption.ask(_socket) // what it says first is meant
        return undefined
      },
    }
  }
}
