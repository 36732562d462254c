import { types } from 'node:util'

/**
 * Whether two values are the same graph: equal in every value, and with the same objects shared in the same places. Each object of one
 * is paired with one of the other; a second meeting must be with the same partner. Returns the first difference.
 */
export function difference(left: unknown, right: unknown): string | undefined {
  const partner = new Map<object, object>()
  const partnerBack = new Map<object, object>()
  const queue: [unknown, unknown, string][] = [[left, right, 'value']]
  for (let i = 0; i < queue.length; i++) {
    const [a, b, path] = queue[i] as [unknown, unknown, string]
    if (typeof a !== 'object' || a === null || typeof b !== 'object' || b === null) {
      if (!Object.is(a, b)) return `${path}: ${String(a)} and ${String(b)}`
      continue
    }
    if (partner.has(a) || partnerBack.has(b)) {
      if (partner.get(a) !== b || partnerBack.get(b) !== a) return `${path}: shared differently`
      continue
    }
    partner.set(a, b)
    partnerBack.set(b, a)
    if (Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)) return `${path}: another prototype`
    const [contentA, contentB] = [contentOf(a), contentOf(b)]
    if (contentA.length !== contentB.length) return `${path}: ${contentA.length} and ${contentB.length} items`
    for (const [index, item] of contentA.entries()) queue.push([item, contentB[index], `${path}.${index}`])
  }
  return undefined
}

function contentOf(value: object): unknown[] {
  if (types.isMap(value)) return [...value].flat(1)
  if (types.isSet(value)) return [...value]
  if (types.isDate(value)) return [value.getTime()]
  if (types.isRegExp(value)) return [value.source, value.flags, value.lastIndex]
  if (value instanceof URL) return [value.href]
  if (types.isArrayBuffer(value)) return [Buffer.from(value).toString('hex')]
  if (Buffer.isBuffer(value)) return [value.toString('hex')]
  if (ArrayBuffer.isView(value)) return [value.byteOffset, value.byteLength, value.buffer]
  const names = types.isNativeError(value) ? Object.getOwnPropertyNames(value).sort() : Object.keys(value)
  const entries = names.map((name) => {
    const property = Object.getOwnPropertyDescriptor(value, name)
    return [name, property?.enumerable, (value as Record<string, unknown>)[name]]
  })
  return [Array.isArray(value) ? value.length : -1, ...entries.flat(1)]
}
