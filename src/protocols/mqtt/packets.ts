/** MQTT as far as it has to be understood here: where a packet begins and ends. @note MQTT 3.1.1, 2.2: type and flags, then the length of the rest, 7 bits a byte. */

/** Puts packets together from what comes piece by piece. */
export class PacketCutter {
  #rest: Buffer = Buffer.alloc(0)

  /** The packets that are whole now, in order. */
  push(piece: Uint8Array): Buffer[] {
    this.#rest = this.#rest.length === 0 ? Buffer.from(piece) : Buffer.concat([this.#rest, piece])
    const whole: Buffer[] = []
    for (let length = lengthOf(this.#rest); length <= this.#rest.length; length = lengthOf(this.#rest)) {
      whole.push(this.#rest.subarray(0, length))
      this.#rest = this.#rest.subarray(length)
    }
    return whole
  }
}

export function typeOf(packet: Uint8Array): number {
  return (packet[0] as number) >> 4
}

/** What a packet begins with. */
export function headOf(type: number, flags: number, length: number | undefined): Uint8Array {
  const bytes = [(type << 4) | flags]
  if (length === undefined) return Uint8Array.from(bytes)
  let left = length
  do {
    bytes.push((left % 128) | (left >= 128 ? 0x80 : 0))
    left = Math.floor(left / 128)
  } while (left > 0)
  return Uint8Array.from(bytes)
}

/** Infinity where not even its length has come in. */
function lengthOf(bytes: Uint8Array): number {
  let length = 0
  for (let i = 1; i <= MAX_LENGTH_BYTES && i < bytes.length; i++) {
    const byte = bytes[i] as number
    length += (byte & 0x7f) * 128 ** (i - 1)
    if (byte < 0x80) return i + 1 + length
  }
  return Number.POSITIVE_INFINITY
}

/** Names of the packets, by their type. */
export const TYPES = [
  '',
  'connect',
  'connack',
  'publish',
  'puback',
  'pubrec',
  'pubrel',
  'pubcomp',
  'subscribe',
  'suback',
  'unsubscribe',
  'unsuback',
  'pingreq',
  'pingresp',
  'disconnect',
  'auth',
] as const
export const CONNACK = TYPES.indexOf('connack')
const MAX_LENGTH_BYTES = 4
