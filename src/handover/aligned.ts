/** Typed columns need an aligned buffer of their own; the bytes of a record lie anywhere, and `slice` of a Buffer copies nothing. */
export function aligned(bytes: Uint8Array): ArrayBuffer {
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer
}
