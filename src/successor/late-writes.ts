import type { Socket } from 'node:net'

/** Applies what a handler of the predecessor that was still at work does to a connection that has moved: as the application would here, in order. */
export function deliverLate(socket: Socket | undefined, kind: 'write' | 'end' | 'destroy', data: Uint8Array | undefined): void {
  if (socket === undefined || socket.destroyed) return
  if (kind === 'destroy') socket.destroy()
  else if (socket.writableEnded) return
  else if (kind === 'end') socket.end(data ?? '')
  else if (data) socket.write(data)
}
