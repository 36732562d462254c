import type { Socket } from 'node:net'
import type { Session } from './session.js'

/** Applies what handlers of the predecessor that were still at work write to connections that have moved: as writes of the application, in order. */
export function deliverLate(session: Session, sockets: Map<number, Socket>): void {
  session.channel.listen({
    onMessage({ message, segments, fds }) {
      session.channel.closeFds(fds)
      if (message.type === 'left') return session.close()
      if (message.type !== 'late') return
      const socket = sockets.get(message.connection)
      if (socket === undefined || socket.destroyed) return
      const data = segments[0]
      if (message.kind === 'destroy') socket.destroy()
      else if (socket.writableEnded) return
      else if (message.kind === 'write') data && socket.write(data)
      else if (data) socket.end(data)
      else socket.end()
    },
    onClose: () => {
      sockets.clear()
      session.close()
    },
  })
}
