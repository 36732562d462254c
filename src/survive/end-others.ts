import type { Native } from '../native/native.js'
import type { Sorted } from './sort.js'

/** No client takes half of an answer for all of it; a WebSocket, which is between two frames, hears that the service restarts. */
export function endOthers(native: Native, { broken, gone }: Sorted): void {
  const away = broken.filter(({ how }) => how === 'going away').map(({ fd }) => fd)
  for (const fd of away) sayServiceRestart(native, fd)
  native.endConnections(Int32Array.from(away))
  native.resetConnections(Int32Array.from(broken.filter(({ how }) => how === 'reset').map(({ fd }) => fd)))
  native.closeFds(Int32Array.from([...gone, ...broken.map(({ fd }) => fd)]))
}

function sayServiceRestart(native: Native, fd: number): void {
  try {
    native.sendMessage(fd, [SERVICE_RESTART], new Int32Array(), 0)
  } catch {
    // A client that takes nothing gets the end alone.
  }
}

/** A close frame of a server, which masks nothing. @note RFC 6455 section 5.5.1; 1012 of IANA's registry of close codes. */
const SERVICE_RESTART = Buffer.from([0x88, 2, 1012 >> 8, 1012 & 0xff])
