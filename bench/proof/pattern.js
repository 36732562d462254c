import { createCipheriv } from 'node:crypto'
import { crc32 } from 'node:zlib'

/**
 * Every stream of the proof carries known bytes: which byte stands where follows from the stream's id and the position alone. The bytes look
 * random, so what is lost, repeated or out of order does not fit what stands there, and where it came from can be found again.
 */

const LENGTH = 1_048_573
export const MAX_CHUNK = 65_536
const once = createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16)).update(Buffer.alloc(LENGTH))
const pattern = Buffer.concat([once, once.subarray(0, MAX_CHUNK)])

/** The bytes of stream `id` from `position` on; at most MAX_CHUNK, not to be changed. */
export function bytesAt(id, position, length) {
  const start = (id * 7919 + position) % LENGTH
  return pattern.subarray(start, start + length)
}

export const HASH_SEED = 0

/** Goes on with a running hash: a number, so that the session of a connection can carry it. */
export function runningHash(hash, bytes) {
  return crc32(bytes, hash)
}

/** Checks what arrives of one stream, and says what is wrong with it. */
export class Verifier {
  position = 0
  received = 0
  hash = HASH_SEED
  lost = 0
  repeated = 0
  wrong = 0
  #id

  constructor(id) {
    this.#id = id
  }

  take(bytes) {
    this.received += bytes.length
    this.hash = runningHash(this.hash, bytes)
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + MAX_CHUNK)
      const same = commonLength(part, bytesAt(this.#id, this.position, part.length))
      this.position += same
      at += same
      if (same < part.length) at += this.#findAgain(part.subarray(same))
    }
  }

  /** Where does this come from? Up to half a pattern ahead: bytes are missing; behind: they are here again. Returns how many belong nowhere. */
  #findAgain(rest) {
    const found = rest.length < PROBE ? -1 : pattern.indexOf(rest.subarray(0, PROBE))
    if (found < 0) {
      const skipped = Math.min(rest.length, PROBE)
      this.wrong += skipped
      this.position += skipped
      return skipped
    }
    const ahead = (((found - this.#id * 7919 - this.position) % LENGTH) + LENGTH) % LENGTH
    const step = ahead < LENGTH / 2 ? ahead : ahead - LENGTH
    if (step > 0) this.lost += step
    else this.repeated -= step
    this.position += step
    return 0
  }
}

/** Bytes that identify a place in the pattern. */
const PROBE = 16

function commonLength(a, b) {
  if (a.equals(b)) return a.length
  let same = 0
  while (a[same] === b[same]) same++
  return same
}
