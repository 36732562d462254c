import { loadBinding } from '../native/binding.js'
import type { Native } from '../native/native.js'

export type { Native }

/** The addon, for commands that cannot do without: control sockets check who is at the other end. Throws ERR_TSUNAGI_ADDON. */
export function requireNative(): Native {
  const { native, missing } = loadBinding()
  if (native === undefined) throw missing
  return native
}
